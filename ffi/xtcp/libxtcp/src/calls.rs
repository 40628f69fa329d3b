//! The specification's functions (WO 02/091709, Fig. 4). What each does is said in `xtcp.h`.

use std::ffi::{c_int, c_void};
use std::net::SocketAddr;
use std::time::Duration;

use library::numbered::{Errno, FIRST_POOL, Failure, NoRoom, NumberSet, Pools, Received, What};

use crate::address;
use crate::pointers::{bytes, copy, need, set, write};
use crate::setup;
use crate::thread::{answer, notice_forks, with_pools};

/// Most bytes of one receive: its length is an `int`.
pub(crate) const RECEIVE_MAX: u64 = i32::MAX.unsigned_abs() as u64;

/// Makes this thread's first pool.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_initialize(buffer_pool_size: usize) -> c_int {
    notice_forks();
    with_pools(|pools| pools.initialize(&setup::attach(buffer_pool_size)).map(|()| 0))
}

/// Tears this thread's first pool down.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_finalize() -> c_int {
    with_pools(|pools| pools.close_pool(FIRST_POOL).map(|()| 0))
}

/// Opens a group in the first pool.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_open_group(domain: c_int, kind: c_int, protocol: c_int, port: u16) -> c_int {
    with_pools(|pools| pools.open_group(FIRST_POOL, &setup::group(domain, kind, protocol, port)?))
}

/// Closes a group.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_close_group(gd: c_int) -> c_int {
    with_pools(|pools| pools.close_group(gd).map(|()| 0))
}

/// Accepts a group's next client.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_accept(gd: c_int) -> c_int {
    with_pools(|pools| pools.accept(gd))
}

/// Tells a client's IPv4 address and port.
///
/// # Safety
/// `sa` is NULL or points to a `struct sockaddr_in`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_pars(gd: c_int, cd: c_int, sa: *mut libc::sockaddr_in) -> c_int {
    with_pools(|pools| {
        need(sa, "sa is NULL")?;
        if pools.local_peer(gd, cd)?.is_some() {
            let what = "the client is a local one; xtcp_pars_ex and xtcp_peer tell of it";
            return Err(Failure::Argument { errno: Errno::AFNOSUPPORT, what });
        }
        let SocketAddr::V4(remote) = pools.describe(gd, cd)?.remote else {
            let what = "the client has an IPv6 address; xtcp_pars_ex tells it";
            return Err(Failure::Argument { errno: Errno::AFNOSUPPORT, what });
        };
        // SAFETY: the caller promises a place for it.
        unsafe { write(sa, address::v4(remote)) };
        Ok(0)
    })
}

/// Closes a connection.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_close(gd: c_int, cd: c_int) -> c_int {
    with_pools(|pools| pools.close(gd, cd).map(|()| 0))
}

/// Receives from one of a group's connections.
///
/// # Safety
/// `cd` is NULL or points to an `int`, `buf` is NULL or points to `len` bytes that can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_recv(
    gd: c_int,
    cd: *mut c_int,
    buf: *mut c_void,
    len: usize,
) -> c_int {
    // SAFETY: the caller promises a place for it.
    unsafe { write(cd, 0) };
    with_pools(|pools| {
        need(cd, "cd is NULL")?;
        need(buf, "buf is NULL")?;
        if len == 0 {
            let what = "len is 0, and so nothing can be received";
            return Err(Failure::Argument { errno: Errno::INVAL, what });
        }
        let most = u64::try_from(len).unwrap_or(u64::MAX).min(RECEIVE_MAX);
        let mut at = 0;
        let received = pools.receive(gd, most, |piece| {
            // SAFETY: all pieces together are at most `len` bytes, which the caller promises.
            unsafe { copy(piece, buf, at) };
            at += piece.len();
        })?;
        // SAFETY: the caller promises a place for it.
        unsafe { write(cd, received.cd) };
        status(&received)
    })
}

/// What `xtcp_recv` returns for what was received.
pub(crate) fn status(received: &Received) -> Result<c_int, Failure> {
    match received.what {
        What::Bytes(count) => Ok(c_int::try_from(count).unwrap_or(c_int::MAX)),
        What::End => Ok(0),
        What::Gone(reason) => Err(Failure::Gone { cd: received.cd, reason }),
    }
}

/// Acknowledges and sends.
///
/// # Safety
/// `buf` is NULL or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_send(
    gd: c_int,
    cd: c_int,
    ackd: usize,
    buf: *const c_void,
    len: usize,
) -> c_int {
    with_pools(|pools| {
        // SAFETY: the caller promises so many bytes.
        unsafe { send(pools, gd, cd, ackd, (buf, len), NoRoom::AcknowledgeStill) }
            .and_then(|count| pools.flush(gd).map(|()| count))
    })
}

/// Acknowledges and sends, and leaves it to a flush to show the appliance.
///
/// # Safety
/// The buffer is NULL or points to so many bytes.
pub(crate) unsafe fn send(
    pools: &mut Pools,
    gd: c_int,
    cd: c_int,
    ackd: usize,
    (buf, len): (*const c_void, usize),
    no_room: NoRoom,
) -> Result<c_int, Failure> {
    let acknowledged = u64::try_from(ackd).unwrap_or(u64::MAX);
    // SAFETY: the caller promises so many bytes.
    let bytes = unsafe { bytes(buf, len) }?;
    pools.send(gd, cd, acknowledged, bytes, no_room)?;
    Ok(c_int::try_from(len).unwrap_or(c_int::MAX))
}

/// Waits until a group is ready.
///
/// # Safety
/// The sets and the time are NULL or point to initialised ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_select(
    n: c_int,
    readgds: *mut NumberSet,
    acceptgds: *mut NumberSet,
    timeout: *mut libc::timeval,
) -> c_int {
    // SAFETY: the caller promises that it can be read, if it is there.
    let timeout = unsafe { timeout.cast_const().as_ref() }.copied();
    if !readgds.is_null() && readgds == acceptgds {
        let what = "readgds and acceptgds are the same set; each is written to";
        return answer(Err(Failure::Argument { errno: Errno::INVAL, what }));
    }
    // SAFETY: the caller promises an initialised set, which is not the other.
    let readable = unsafe { set(readgds) };
    // SAFETY: as above.
    let acceptable = unsafe { set(acceptgds) };
    with_pools(|pools| select(pools, n, readable, acceptable, timeout))
}

fn select(
    pools: &mut Pools,
    n: c_int,
    readable: Option<&mut NumberSet>,
    acceptable: Option<&mut NumberSet>,
    timeout: Option<libc::timeval>,
) -> Result<c_int, Failure> {
    let timeout: Option<Duration> = timeout.map(setup::timeout).transpose()?;
    let len = |set: &Option<&mut NumberSet>| set.as_ref().map_or(0, |set| set.len());
    let members = len(&readable).max(len(&acceptable));
    if usize::try_from(n).map_or(true, |n| n < members) {
        let what = "n is smaller than a set";
        return Err(Failure::Argument { errno: Errno::INVAL, what });
    }
    let ready = pools.select(readable, acceptable, timeout)?;
    Ok(c_int::try_from(ready).unwrap_or(c_int::MAX))
}
