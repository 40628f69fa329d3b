//! DPDK's environment: one per process, and everything of DPDK lives inside it.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::fmt;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use dpdk_sys as sys;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::args::EalArgs;
use crate::errno::Errno;

/// EAL can be initialised once, and not again after it was cleaned up.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// DPDK's environment, shared by everything made in it.
///
/// Clones are handles on the same environment. When the last handle, pool, port and queue is gone,
/// the memory and devices are given back, provided that every frame has come home and that the last
/// of them went in the thread that called [`Eal::init`]; otherwise they are left to the end of the
/// process. [`Eal::close`] does the same and says whether it could.
#[derive(Clone)]
pub struct Eal {
    hold: Arc<Hold>,
}

/// What the handles share.
struct Hold {
    main: ThreadId,
    has_hugepages: bool,
    tsc_hz: u64,
    /// Whether the end was seen to already.
    finished: bool,
    /// Every pool ever made; they live as long as this does.
    pools: Mutex<Vec<NonNull<sys::rte_mempool>>>,
    /// The ports that have an owner.
    claimed: Mutex<Vec<u16>>,
}

// SAFETY: the pools' functions that are called here (count, free) may be called from any thread,
// and freeing happens once, when nothing else is left.
unsafe impl Send for Hold {}
// SAFETY: as above; the list of pools is behind a mutex.
unsafe impl Sync for Hold {}

impl Eal {
    /// Initialises EAL with `args`, in the calling thread, which becomes EAL's main thread and
    /// stays on the first core of [`EalArgs::cores`].
    ///
    /// The thread is restricted to that core first, because EAL's own threads inherit its affinity
    /// and would otherwise run on the workers' cores.
    ///
    /// # Errors
    /// If it was called before in this process, if the core is not available to the process, or if
    /// EAL refuses; EAL's own log on stderr then has the details.
    pub fn init(args: &EalArgs) -> Result<Self, EalError> {
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyInitialised);
        }
        let core = args.cores()[0];
        pin_to_core(core).map_err(|error| EalError::Core { core, error })?;

        let line = args.line();
        let words = line.iter().map(|word| CString::new(word.as_str()));
        // EAL keeps pointers into its arguments, so they are never freed: some hundred bytes, once.
        let mut pointers: Vec<*mut c_char> = words
            .map(|word| word.map(CString::into_raw))
            .collect::<Result<_, _>>()
            .map_err(|_| EalError::Init { line: args.to_string(), errno: Errno::new(22) })?;
        let count = pointers.len() as i32;
        pointers.push(std::ptr::null_mut());
        let pointers = Vec::leak(pointers);
        // SAFETY: `pointers` is an argument vector as `main` gets it, `count` strings and a null,
        // valid and writable for the rest of the process; and this is the only call in it.
        let parsed = unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) };
        if parsed < 0 {
            return Err(EalError::Init { line: args.to_string(), errno: Errno::last() });
        }
        if !args.has_files() {
            remove_runtime_dir();
        }
        // SAFETY: EAL is initialised.
        let has_hugepages = unsafe { sys::rte_eal_has_hugepages() } != 0;
        // SAFETY: EAL is initialised.
        let tsc_hz = unsafe { sys::rte_get_tsc_hz() };
        let hold = Hold {
            main: thread::current().id(),
            has_hugepages,
            tsc_hz,
            finished: false,
            pools: Mutex::default(),
            claimed: Mutex::default(),
        };
        Ok(Self { hold: Arc::new(hold) })
    }

    /// Makes the calling thread known to DPDK, which gives it a cache of its own in every pool.
    ///
    /// Call it in every worker, after [`pin_to_core`]. The thread is forgotten when the guard is
    /// dropped.
    ///
    /// # Errors
    /// If the thread is known already, if there is no number left (128 threads in all), or if
    /// another process shares this EAL.
    pub fn register_thread(&self) -> Result<RegisteredThread, EalError> {
        // SAFETY: reads a thread-local integer.
        if unsafe { sys::shim_lcore_id() } != sys::SHIM_LCORE_ID_ANY {
            return Err(EalError::ThreadKnown);
        }
        // SAFETY: EAL is initialised, and the thread is not registered.
        if unsafe { sys::rte_thread_register() } < 0 {
            return Err(EalError::Thread { errno: Errno::last() });
        }
        Ok(RegisteredThread { _eal: self.clone(), not_send: PhantomData })
    }

    /// The rate of the time-stamp counter as EAL measured it, in ticks per second.
    #[must_use]
    pub fn tsc_hz(&self) -> u64 {
        self.hold.tsc_hz
    }

    /// Whether EAL's memory is of hugepages.
    #[must_use]
    pub fn has_hugepages(&self) -> bool {
        self.hold.has_hugepages
    }

    /// Gives memory and devices back, and says why if it cannot.
    ///
    /// # Errors
    /// If something else still holds the environment (a port, a pool, another handle), if a frame
    /// has not come home, or if this is not the thread that initialised it. Then what is left is
    /// given back by the end of the process at the latest.
    pub fn close(self) -> Result<(), NotClosed> {
        if Arc::strong_count(&self.hold) > 1 {
            return Err(NotClosed::Held { holders: Arc::strong_count(&self.hold) - 1 });
        }
        match Arc::into_inner(self.hold) {
            Some(mut hold) => hold.finish(),
            None => Err(NotClosed::Held { holders: 1 }),
        }
    }

    /// Keeps `pool` until EAL ends.
    pub(crate) fn keep(&self, pool: NonNull<sys::rte_mempool>) {
        self.hold.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
    }

    /// Makes the caller the owner of port `id`, or says that somebody is.
    pub(crate) fn claim(&self, id: u16) -> bool {
        let mut claimed = self.hold.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let free = !claimed.contains(&id);
        if free {
            claimed.push(id);
        }
        free
    }

    /// Ends the ownership of port `id`.
    pub(crate) fn unclaim(&self, id: u16) {
        let mut claimed = self.hold.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.retain(|claimed| *claimed != id);
    }
}

impl fmt::Debug for Eal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eal")
            .field("has_hugepages", &self.hold.has_hugepages)
            .field("tsc_hz", &self.hold.tsc_hz)
            .finish_non_exhaustive()
    }
}

impl Hold {
    /// Gives everything back if nothing is out. Nothing can come out meanwhile: frames come from
    /// pools and queues, and those are gone when this is called.
    fn finish(&mut self) -> Result<(), NotClosed> {
        self.finished = true;
        if thread::current().id() != self.main {
            return Err(NotClosed::WrongThread);
        }
        let pools = self.pools.get_mut().unwrap_or_else(PoisonError::into_inner);
        for pool in pools.iter() {
            // SAFETY: a pool in the list is alive.
            let out = unsafe { sys::rte_mempool_in_use_count(pool.as_ptr()) };
            if out > 0 {
                return Err(NotClosed::FramesOut { count: out });
            }
        }
        for pool in pools.drain(..) {
            // SAFETY: every object is back in the pool, the ports that used it are closed, and it
            // leaves the list, so it is freed once.
            unsafe { sys::rte_mempool_free(pool.as_ptr()) };
        }
        // SAFETY: this is EAL's main thread and nothing of EAL is used any more.
        unsafe { sys::rte_eal_cleanup() };
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be given back is left to the end of the process; `close` tells.
            let _ = self.finish();
        }
    }
}

/// Removes the directory that EAL makes for files even if it has none, so that nothing is left of a
/// process that is killed.
fn remove_runtime_dir() {
    // SAFETY: EAL is initialised.
    let dir = unsafe { sys::rte_eal_get_runtime_dir() };
    // SAFETY: the function gives a string that lives as long as EAL.
    let dir = unsafe { CStr::from_ptr(dir) };
    // It stays if another process has files in it.
    let _ = fs::remove_dir(OsStr::from_bytes(dir.to_bytes()));
}

/// A thread that DPDK knows; dropped, it is forgotten.
#[derive(Debug)]
pub struct RegisteredThread {
    _eal: Eal,
    /// It belongs to its thread.
    not_send: PhantomData<*const ()>,
}

impl RegisteredThread {
    /// The number DPDK gave the thread.
    #[must_use]
    pub fn lcore(&self) -> u32 {
        // SAFETY: reads a thread-local integer; `self` cannot leave its thread.
        unsafe { sys::shim_lcore_id() }
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: the thread that is running is the one that was registered: the guard is not Send.
        unsafe { sys::rte_thread_unregister() };
    }
}

/// Why EAL could not be initialised, or a thread not registered.
#[derive(Debug)]
pub enum EalError {
    /// EAL was initialised before in this process.
    AlreadyInitialised,
    /// The control core cannot be had.
    Core {
        /// The core.
        core: u16,
        /// What the system said.
        error: io::Error,
    },
    /// EAL refused.
    Init {
        /// The exact arguments.
        line: String,
        /// The reason it gave.
        errno: Errno,
    },
    /// The thread is registered already, or is EAL's main thread.
    ThreadKnown,
    /// DPDK does not take the thread.
    Thread {
        /// The reason it gave.
        errno: Errno,
    },
}

impl fmt::Display for EalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyInitialised => f.write_str(
                "EAL was initialised before in this process, and DPDK allows that only once",
            ),
            Self::Core { core, error } => write!(
                f,
                "the control core {core} cannot be used ({error}); name cores of this machine that \
                 the process may run on with -l"
            ),
            Self::Init { line, errno } => write!(
                f,
                "EAL did not start ({errno}) with the arguments `{line}`; its own messages above \
                 say more. If it found no hugepages, reserve some (`sysctl vm.nr_hugepages=512`) \
                 or run on ordinary pages with `--no-huge -m 512`"
            ),
            Self::ThreadKnown => f.write_str("this thread is registered with DPDK already"),
            Self::Thread { errno } => write!(
                f,
                "DPDK did not register the thread ({errno}); it takes 128 threads at most, and \
                 none while another DPDK process shares the memory"
            ),
        }
    }
}

impl std::error::Error for EalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Core { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why [`Eal::close`] did not give everything back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClosed {
    /// Ports, pools, queues or handles are alive.
    Held {
        /// How many.
        holders: usize,
    },
    /// Frames have not come home to their pool. Some drivers keep those in their rings when they
    /// are closed (net_af_xdp, net_memif, net_ring).
    FramesOut {
        /// How many, in the first pool that misses any.
        count: u32,
    },
    /// Not the thread that initialised EAL.
    WrongThread,
}

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { holders } => write!(
                f,
                "EAL stays open: {holders} ports, pools, queues or threads still use it; drop them \
                 first"
            ),
            Self::FramesOut { count } => {
                write!(f, "EAL stays open: {count} frames have not come back to their pool")
            }
            Self::WrongThread => {
                f.write_str("EAL stays open: only the thread that initialised it can close it")
            }
        }
    }
}

impl std::error::Error for NotClosed {}

/// Restricts the calling thread to one core.
///
/// # Errors
/// If the machine has no such core or the process may not use it.
pub fn pin_to_core(core: u16) -> io::Result<()> {
    if usize::from(core) >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut set = CpuSet::new();
    set.set(usize::from(core));
    Ok(sched_setaffinity(None, &set)?)
}

/// The cores the calling thread may run on, in rising order.
///
/// # Errors
/// If the system does not say.
pub fn allowed_cores() -> io::Result<Vec<u16>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).map(|core| core as u16).collect())
}
