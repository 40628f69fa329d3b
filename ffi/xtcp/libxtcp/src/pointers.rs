//! From what C programs pass to what Rust can use, with the checks that are possible.

use std::ffi::{CStr, c_char, c_void};

use library::numbered::{Errno, Failure, NumberSet};

/// One option, see `struct xtcp_option`.
#[repr(C)]
#[derive(Debug)]
pub struct XtcpOption {
    pub(crate) key: *const c_char,
    pub(crate) value: *const c_char,
}

const _: () = assert!(size_of::<XtcpOption>() == 16);

/// A pointer that is needed is not there.
fn is_null(what: &'static str) -> Failure {
    Failure::Argument { errno: Errno::FAULT, what }
}

/// Refuses a pointer to nowhere.
pub(crate) fn need<T>(pointer: *const T, what: &'static str) -> Result<(), Failure> {
    if pointer.is_null() { Err(is_null(what)) } else { Ok(()) }
}

/// The bytes of a buffer; it may be nowhere if it is empty.
///
/// # Safety
/// `buf` is NULL or points to `len` bytes that do not change while the slice is used.
pub(crate) unsafe fn bytes<'a>(buf: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    need(buf, "buf is NULL and len is not 0")?;
    if i32::try_from(len).is_err() {
        let what = "len is more than one call can send; send it in several pieces";
        return Err(Failure::Argument { errno: Errno::MSGSIZE, what });
    }
    // SAFETY: the caller promises so many bytes; they are fewer than isize::MAX.
    Ok(unsafe { std::slice::from_raw_parts(buf.cast(), len) })
}

/// Writes a result.
///
/// # Safety
/// `to` is NULL or points to a place for a `T`, aligned as C aligns it.
pub(crate) unsafe fn write<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: the caller promises a place for it.
        unsafe { to.write(value) };
    }
}

/// Copies bytes to the place of a buffer where they belong.
///
/// # Safety
/// From `buf + at` on, `bytes.len()` bytes can be written, and they are not `bytes`' own.
pub(crate) unsafe fn copy(bytes: &[u8], buf: *mut c_void, at: usize) {
    // SAFETY: the caller promises that the place lies inside the buffer.
    let to = unsafe { buf.cast::<u8>().add(at) };
    // SAFETY: the caller promises the room; `bytes` is a slice of the library's own memory.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

/// A list of `count` elements to be read and written.
///
/// # Safety
/// `list` is NULL or points to so many, which nobody else uses meanwhile.
pub(crate) unsafe fn list<'a, T>(list: *mut T, count: i32) -> Result<&'a mut [T], Failure> {
    let Ok(count) = usize::try_from(count) else {
        let what = "count is negative";
        return Err(Failure::Argument { errno: Errno::INVAL, what });
    };
    if count == 0 {
        return Ok(&mut []);
    }
    need(list, "the list is NULL and count is not 0")?;
    // SAFETY: the caller promises so many elements of its own.
    Ok(unsafe { std::slice::from_raw_parts_mut(list, count) })
}

/// A set of groups.
///
/// # Safety
/// `set` is NULL or points to an initialised set that nobody else uses meanwhile.
pub(crate) unsafe fn set<'a>(set: *mut NumberSet) -> Option<&'a mut NumberSet> {
    // SAFETY: the caller promises an initialised set; every value of its members is valid.
    unsafe { set.as_mut() }
}

/// Gives each option of a list to `take`.
///
/// # Safety
/// `options` is NULL or points to a list that ends with a NULL key, whose other keys and values
/// are strings.
pub(crate) unsafe fn each_option(
    mut options: *const XtcpOption,
    mut take: impl FnMut(&str, &str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while !options.is_null() {
        // SAFETY: the caller promises an option here: none before was the last.
        let XtcpOption { key, value } = unsafe { options.read() };
        if key.is_null() {
            break;
        }
        // SAFETY: the caller promises a string.
        let key = unsafe { text(key) }?;
        need(value, "an option has a key and no value")?;
        // SAFETY: the caller promises a string.
        let value = unsafe { text(value) }?;
        take(key, value)?;
        // SAFETY: this option was not the last of the list.
        options = unsafe { options.add(1) };
    }
    Ok(())
}

/// # Safety
/// `string` points to a string that does not change while it is used.
unsafe fn text<'a>(string: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: the caller promises a string, with its end.
    let string = unsafe { CStr::from_ptr(string) };
    let what = "an option is not UTF-8";
    string.to_str().map_err(|_| Failure::Argument { errno: Errno::INVAL, what })
}
