//! Each thread's pools, and what its last failed call met.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::beyond::XtcpPiece;
use library::numbered::{Errno, Failure, Pools};

/// How many forks this process descends from. A child has its parent's memory, and so copies of
/// its rings' positions; it must not use them.
static FORKS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static POOLS: RefCell<Pools> = RefCell::new(Pools::new());
    /// [`FORKS`] when the pools were last used.
    static FORKS_SEEN: Cell<u32> = const { Cell::new(0) };
    static FAILURE: RefCell<Option<Failure>> = const { RefCell::new(None) };
    /// The pieces of the last batch received.
    static PIECES: RefCell<Vec<XtcpPiece>> = const { RefCell::new(Vec::new()) };
    static SENTENCE: RefCell<CString> = RefCell::new(CString::default());
}

/// Calls with this thread's pools and answers what C programs get.
pub(crate) fn with_pools(call: impl FnOnce(&mut Pools) -> Result<c_int, Failure>) -> c_int {
    answer(in_pools(call))
}

/// The negative errno value of a failure, which is kept for [`last_error`].
pub(crate) fn answer(result: Result<c_int, Failure>) -> c_int {
    result.unwrap_or_else(|failure| {
        let errno = failure.errno().raw_os_error();
        // A thread that ends has no place for it any more.
        let _ = FAILURE.try_with(|kept| kept.replace(Some(failure)));
        -errno
    })
}

fn in_pools(call: impl FnOnce(&mut Pools) -> Result<c_int, Failure>) -> Result<c_int, Failure> {
    let done = POOLS.try_with(|pools| {
        let Ok(mut pools) = pools.try_borrow_mut() else {
            return Err(Failure::Argument {
                errno: Errno::DEADLK,
                what: "a signal handler called the library while its thread was in it; set a flag \
                       there instead",
            });
        };
        let forks = FORKS.load(Ordering::Relaxed);
        if FORKS_SEEN.replace(forks) != forks {
            // These are the parent's. Letting go of them here changes nothing for it.
            *pools = Pools::new();
        }
        call(&mut pools)
    });
    // A thread that ends has lost its pools.
    done.unwrap_or(Err(Failure::NoPool))
}

/// Calls with the list of pieces of the last batch, which stays until the next batch.
pub(crate) fn with_pieces(
    call: impl FnOnce(&mut Vec<XtcpPiece>) -> Result<c_int, Failure>,
) -> Result<c_int, Failure> {
    let done =
        PIECES.try_with(|pieces| pieces.try_borrow_mut().map(|mut pieces| call(&mut pieces)));
    // Only one call at a time has the pools and asks for this.
    done.map_or(Err(Failure::NoPool), |done| done.unwrap_or(Err(Failure::NoPool)))
}

/// Sees to it that a child knows that it is one.
pub(crate) fn notice_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is a function of the type that is wanted, lives as long as the
        // process, and does nothing but add to an atomic, which a forked child may do.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(on_fork)) };
        // Without memory for a handler children are not told apart, which is all that fails.
        let _ = failed;
    });
}

unsafe extern "C" fn on_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The sentence about this thread's last failure; it stays until the next call of this.
pub(crate) fn last_error() -> *const c_char {
    const NONE: &CStr = c"no call of this thread has failed";
    let text = FAILURE.try_with(|kept| {
        let kept = kept.try_borrow().ok()?;
        CString::new(kept.as_ref()?.to_string()).ok()
    });
    let Ok(Some(text)) = text else { return NONE.as_ptr() };
    let kept = SENTENCE.try_with(|sentence| {
        sentence.replace(text);
        sentence.try_borrow().map(|kept| kept.as_ptr()).ok()
    });
    kept.ok().flatten().unwrap_or(NONE.as_ptr())
}
