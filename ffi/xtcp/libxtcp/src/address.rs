//! Socket addresses as C has them.

use std::ffi::c_char;
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An IPv4 address and port.
pub(crate) fn v4(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: family(libc::AF_INET),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn v6(address: SocketAddrV6) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: family(libc::AF_INET6),
        sin6_port: address.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: address.scope_id(),
    }
}

fn family(number: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or(0)
}

/// Either, in room for both.
pub(crate) fn storage(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: the type is plain numbers, for which all zeros is a value.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let place: *mut libc::sockaddr_storage = &mut storage;
    match address {
        // SAFETY: a sockaddr_storage is as large and as aligned as any other address.
        SocketAddr::V4(address) => unsafe { place.cast::<libc::sockaddr_in>().write(v4(address)) },
        // SAFETY: as above.
        SocketAddr::V6(address) => unsafe { place.cast::<libc::sockaddr_in6>().write(v6(address)) },
    }
    storage
}

/// A path, as far as there is room for it, or no name.
pub(crate) fn unix(path: Option<&Path>) -> libc::sockaddr_storage {
    let mut address =
        libc::sockaddr_un { sun_family: family(libc::AF_UNIX), sun_path: [0; UNIX_PATH] };
    let bytes = path.map_or(&[][..], |path| path.as_os_str().as_bytes());
    // The last place stays a 0: it is a string.
    for (place, byte) in address.sun_path.iter_mut().take(UNIX_PATH - 1).zip(bytes) {
        *place = c_char::from_ne_bytes([*byte]);
    }
    // SAFETY: the type is plain numbers, for which all zeros is a value.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let place: *mut libc::sockaddr_storage = &mut storage;
    // SAFETY: a sockaddr_storage is as large and as aligned as any other address.
    unsafe { place.cast::<libc::sockaddr_un>().write(address) };
    storage
}

/// Bytes of a `sun_path`.
const UNIX_PATH: usize = 108;

const _: () = {
    assert!(size_of::<libc::sockaddr_un>() <= size_of::<libc::sockaddr_storage>());
    assert!(align_of::<libc::sockaddr_un>() <= align_of::<libc::sockaddr_storage>());
    assert!(size_of::<libc::sockaddr_in6>() <= size_of::<libc::sockaddr_storage>());
    assert!(align_of::<libc::sockaddr_in6>() <= align_of::<libc::sockaddr_storage>());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lie_as_the_network_has_them() {
        let address = v4("10.77.0.1:258".parse().unwrap());
        assert_eq!(i32::from(address.sin_family), libc::AF_INET);
        assert_eq!(address.sin_port.to_ne_bytes(), [1, 2]);
        assert_eq!(address.sin_addr.s_addr.to_ne_bytes(), [10, 77, 0, 1]);

        let storage = storage("[fd77::1]:258".parse().unwrap());
        assert_eq!(i32::from(storage.ss_family), libc::AF_INET6);
        let place: *const libc::sockaddr_storage = &storage;
        // SAFETY: the family says that this is what was written there.
        let address = unsafe { place.cast::<libc::sockaddr_in6>().read() };
        assert_eq!(address.sin6_port.to_ne_bytes(), [1, 2]);
        assert_eq!(address.sin6_addr.s6_addr[..3], [0xfd, 0x77, 0]);
        assert_eq!(address.sin6_addr.s6_addr[15], 1);
    }
}
