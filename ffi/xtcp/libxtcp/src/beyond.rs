//! What is beyond the specification. What each function does is said in `xtcp.h`.

use std::ffi::{c_char, c_int, c_uint, c_void};

use library::numbered::{Errno, FIRST_POOL, Failure, NoRoom, Pools, Sending};
use library::{Drain, Manner};

use crate::calls::{RECEIVE_MAX, send, status};
pub use crate::pointers::XtcpOption;
use crate::pointers::{bytes, each_option, list, need, write};
use crate::thread::{answer, last_error, notice_forks, with_pools};
use crate::{address, setup, thread};

/// Acknowledge only if the bytes could be sent.
const TIED: c_int = 1;

/// Some bytes of a client, where they lie; `struct xtcp_piece`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XtcpPiece {
    pub(crate) at: *const c_void,
    pub(crate) len: usize,
}

/// What was received from a connection; `struct xtcp_received`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XtcpReceived {
    pub(crate) cd: c_int,
    pub(crate) status: c_int,
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    pub(crate) pieces: *const XtcpPiece,
    pub(crate) piece_count: usize,
}

/// Bytes of a name, with the 0 behind it.
const NAME: usize = 68;

/// A group that a predecessor left; `struct xtcp_group`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XtcpGroup {
    pub(crate) gd: c_int,
    pub(crate) port: u16,
    pub(crate) priority: u16,
    pub(crate) name: [c_char; NAME],
}

const _: () = assert!(size_of::<XtcpGroup>() == 76);

/// The arguments of a send, and what it returned; `struct xtcp_sending`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XtcpSending {
    pub(crate) gd: c_int,
    pub(crate) cd: c_int,
    pub(crate) flags: c_int,
    pub(crate) result: c_int,
    pub(crate) ackd: usize,
    pub(crate) buf: *const c_void,
    pub(crate) len: usize,
}

const _: () = assert!(size_of::<XtcpPiece>() == 16);
const _: () = assert!(size_of::<XtcpReceived>() == 40);
const _: () = assert!(size_of::<XtcpSending>() == 40);

/// What the thread's last failed call met, in a sentence.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_last_error() -> *const c_char {
    last_error()
}

/// Makes a further pool.
///
/// # Safety
/// `options` is NULL or a list of options that ends with a NULL key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_open_pool(
    buffer_pool_size: usize,
    options: *const XtcpOption,
) -> c_int {
    notice_forks();
    with_pools(|pools| {
        let mut attach = setup::attach(buffer_pool_size);
        // SAFETY: the caller promises such a list.
        unsafe { each_option(options, |key, value| attach.set(key, value)) }?;
        pools.open(&attach)
    })
}

/// Tears a pool down.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_close_pool(pd: c_int) -> c_int {
    with_pools(|pools| pools.close_pool(pd).map(|()| 0))
}

/// Opens a group in a pool.
///
/// # Safety
/// `options` is NULL or a list of options that ends with a NULL key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_open_group_ex(
    pd: c_int,
    domain: c_int,
    kind: c_int,
    protocol: c_int,
    port: u16,
    options: *const XtcpOption,
) -> c_int {
    with_pools(|pools| {
        let mut group = setup::group(domain, kind, protocol, port)?;
        // SAFETY: the caller promises such a list.
        unsafe { each_option(options, |key, value| group.set(key, value)) }?;
        pools.open_group(pd, &group)
    })
}

/// Refuses a group's next client.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_refuse(gd: c_int) -> c_int {
    with_pools(|pools| pools.refuse(gd).map(|()| 0))
}

/// Resets a connection.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_abort(gd: c_int, cd: c_int) -> c_int {
    with_pools(|pools| pools.abort(gd, cd).map(|()| 0))
}

/// Tells both ends' addresses and ports.
///
/// # Safety
/// Both are NULL or point to a `struct sockaddr_storage` each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_pars_ex(
    gd: c_int,
    cd: c_int,
    remote: *mut libc::sockaddr_storage,
    local: *mut libc::sockaddr_storage,
) -> c_int {
    with_pools(|pools| {
        if let Some((path, _)) = pools.local_peer(gd, cd)? {
            // SAFETY: the caller promises a place for it, if it wants it.
            unsafe { write(remote, address::unix(None)) };
            // SAFETY: as above.
            unsafe { write(local, address::unix(Some(&path))) };
            return Ok(0);
        }
        let info = pools.describe(gd, cd)?;
        // SAFETY: the caller promises a place for it, if it wants it.
        unsafe { write(remote, address::storage(info.remote)) };
        // SAFETY: as above.
        unsafe { write(local, address::storage(info.local)) };
        Ok(0)
    })
}

/// Tells the process and the user at the other end of a local connection.
///
/// # Safety
/// `process` and `user` are NULL or point to an `int` and an `unsigned`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_peer(
    gd: c_int,
    cd: c_int,
    process: *mut c_int,
    user: *mut c_uint,
) -> c_int {
    with_pools(|pools| {
        let Some((_, peer)) = pools.local_peer(gd, cd)? else {
            let what = "the client is not a local one; xtcp_pars_ex tells its address";
            return Err(Failure::Argument { errno: Errno::AFNOSUPPORT, what });
        };
        // SAFETY: the caller promises a place for it, if it wants it.
        unsafe { write(process, peer.process) };
        // SAFETY: as above.
        unsafe { write(user, peer.user) };
        Ok(0)
    })
}

/// Brings a group's connections to their end.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_drain_group(gd: c_int, per_second: c_uint, manner: c_int) -> c_int {
    with_pools(|pools| {
        let manner = match manner {
            0 => Manner::WhenIdle,
            1 => Manner::Close,
            2 => Manner::Reset,
            _ => {
                let what = "manner is XTCP_WHEN_IDLE, XTCP_BY_CLOSE or XTCP_BY_RESET";
                return Err(Failure::Argument { errno: Errno::INVAL, what });
            }
        };
        pools.drain_group(gd, &Drain { per_second, manner }).map(|()| 0)
    })
}

/// Tells the groups that a predecessor left.
///
/// # Safety
/// `groups` is NULL or points to `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_resumed_groups(
    pd: c_int,
    groups: *mut XtcpGroup,
    count: c_int,
) -> c_int {
    with_pools(|pools| {
        // SAFETY: the caller promises so many.
        let places = unsafe { list(groups, count) }?;
        let left = pools.resumed_groups(pd)?;
        for (place, (gd, left)) in places.iter_mut().zip(&left) {
            let mut name = [0; NAME];
            for (place, byte) in name.iter_mut().take(NAME - 1).zip(left.name.bytes()) {
                *place = c_char::from_ne_bytes([byte]);
            }
            *place = XtcpGroup { gd: *gd, port: left.port, priority: left.priority.into(), name };
        }
        Ok(c_int::try_from(left.len()).unwrap_or(c_int::MAX))
    })
}

/// Tells how many connections a predecessor left.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_resumed_connections(pd: c_int) -> c_int {
    with_pools(|pools| {
        let count = pools.resumed_connections(pd)?;
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    })
}

/// Tells the number of the next connection that a predecessor left.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_next_resumed(gd: c_int) -> c_int {
    with_pools(|pools| pools.next_resumed(gd))
}

/// Acknowledges and sends on several connections, all or nothing.
///
/// # Safety
/// `sendings` is NULL or points to `count` elements, each with a buffer that is NULL or as long as
/// it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_transact(sendings: *mut XtcpSending, count: c_int) -> c_int {
    with_pools(|pools| {
        // SAFETY: the caller promises so many.
        let sendings = unsafe { list(sendings, count) }?;
        // SAFETY: the caller promises their buffers.
        let done = unsafe { transact(pools, sendings) };
        let errno = done.as_ref().err().map(|failure| -failure.errno().raw_os_error());
        for sending in sendings {
            let len = c_int::try_from(sending.len).unwrap_or(c_int::MAX);
            sending.result = errno.unwrap_or(len);
        }
        done.map(|()| 0)
    })
}

/// # Safety
/// Each buffer is NULL or as long as it says.
unsafe fn transact(pools: &mut Pools, sendings: &[XtcpSending]) -> Result<(), Failure> {
    let mut all = Vec::with_capacity(sendings.len());
    for XtcpSending { gd, cd, flags, ackd, buf, len, .. } in sendings {
        if *flags != 0 {
            let what = "flags are 0 in a transaction";
            return Err(Failure::Argument { errno: Errno::INVAL, what });
        }
        let acknowledged = u64::try_from(*ackd).unwrap_or(u64::MAX);
        // SAFETY: the caller promises so many bytes.
        let bytes = unsafe { bytes(*buf, *len) }?;
        all.push(Sending { gd: *gd, cd: *cd, acknowledged, bytes });
    }
    pools.transact(&all)
}

/// Tells the appliance's handle of a connection.
///
/// # Safety
/// `handle` is NULL or points to a `uint64_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_handle(gd: c_int, cd: c_int, handle: *mut u64) -> c_int {
    with_pools(|pools| {
        need(handle, "handle is NULL")?;
        let named = pools.named(gd, cd)?;
        // SAFETY: the caller promises a place for it.
        unsafe { write(handle, named.handle()) };
        Ok(0)
    })
}

/// Tells the number of the connection that has a handle.
#[unsafe(no_mangle)]
pub extern "C" fn xtcp_find(gd: c_int, handle: u64) -> c_int {
    with_pools(|pools| pools.number(gd, handle))
}

/// Acknowledges and sends, or does neither.
///
/// # Safety
/// `buf` is NULL or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_answer(
    gd: c_int,
    cd: c_int,
    ackd: usize,
    buf: *const c_void,
    len: usize,
) -> c_int {
    with_pools(|pools| {
        // SAFETY: the caller promises so many bytes.
        unsafe { send(pools, gd, cd, ackd, (buf, len), NoRoom::GiveAgain) }
            .and_then(|count| pools.flush(gd).map(|()| count))
    })
}

/// Receives from several of a group's connections, in place.
///
/// # Safety
/// `received` is NULL or points to `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_recv_batch(
    gd: c_int,
    received: *mut XtcpReceived,
    count: c_int,
) -> c_int {
    with_pools(|pools| {
        // SAFETY: the caller promises so many.
        let received = unsafe { list(received, count) }?;
        thread::with_pieces(|all| recv_batch(pools, gd, received, all))
    })
}

fn recv_batch(
    pools: &mut Pools,
    gd: c_int,
    received: &mut [XtcpReceived],
    all: &mut Vec<XtcpPiece>,
) -> Result<c_int, Failure> {
    if received.is_empty() {
        let what = "count is 0, and so nothing can be received";
        return Err(Failure::Argument { errno: Errno::INVAL, what });
    }
    all.clear();
    let mut places = received.iter_mut();
    let most = places.len();
    let done = pools.receive_batch(gd, most, RECEIVE_MAX, |what, pieces| {
        let Some(place) = places.next() else { return };
        let before = all.len();
        all.extend(pieces.map(|piece| XtcpPiece { at: piece.as_ptr().cast(), len: piece.len() }));
        *place = XtcpReceived {
            cd: what.cd,
            status: status(&what).unwrap_or_else(|failure| -failure.errno().raw_os_error()),
            handle: what.connection.handle(),
            offset: what.offset,
            pieces: std::ptr::null(),
            piece_count: all.len() - before,
        };
    })?;
    // The list has grown where it is by now.
    let mut rest = all.as_slice();
    for place in received.iter_mut().take(done) {
        place.pieces = rest.as_ptr();
        rest = rest.get(place.piece_count..).unwrap_or_default();
    }
    Ok(c_int::try_from(done).unwrap_or(c_int::MAX))
}

/// Does several sends and shows them to the appliance at once.
///
/// # Safety
/// `sendings` is NULL or points to `count` elements, each with a buffer that is NULL or as long as
/// it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_send_batch(sendings: *mut XtcpSending, count: c_int) -> c_int {
    with_pools(|pools| {
        // SAFETY: the caller promises so many.
        let sendings = unsafe { list(sendings, count) }?;
        let mut succeeded = 0;
        for sending in &mut *sendings {
            let XtcpSending { gd, cd, flags, ackd, buf, len, .. } = *sending;
            let result = match flags {
                // SAFETY: the caller promises so many bytes.
                0 => unsafe { send(pools, gd, cd, ackd, (buf, len), NoRoom::AcknowledgeStill) },
                // SAFETY: as above.
                TIED => unsafe { send(pools, gd, cd, ackd, (buf, len), NoRoom::GiveAgain) },
                _ => {
                    let what = "flags are 0 or XTCP_TIED";
                    Err(Failure::Argument { errno: Errno::INVAL, what })
                }
            };
            succeeded += c_int::from(result.is_ok());
            sending.result = answer(result);
        }
        pools.flush_all();
        Ok(succeeded)
    })
}

/// Tells what to sleep on.
///
/// # Safety
/// `timeout_ms` is NULL or points to an `int`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xtcp_arm(pd: c_int, timeout_ms: *mut c_int) -> c_int {
    with_pools(|pools| {
        need(timeout_ms, "timeout_ms is NULL")?;
        let Some((file, most)) = pools.arm(pd)? else { return Err(Failure::Nothing) };
        // Whole milliseconds; something short is not taken for nothing.
        let most = most.map_or(-1, |most| {
            c_int::try_from(most.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
        });
        // SAFETY: the caller promises a place for it.
        unsafe { write(timeout_ms, most) };
        Ok(file)
    })
}

const _: () = assert!(FIRST_POOL == 0, "xtcp.h says so");
