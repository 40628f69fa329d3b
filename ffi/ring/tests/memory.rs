//! Memory shared by processes: who can map it how.
#![cfg(not(loom))]

use std::env;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{self, Command};
use std::ptr;
use std::time::Duration;

use rustix::fs::{FallocateFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use xtcp_ring::{
    ExclusiveMapping, Listener, Mapping, NotMapped, PageSize, ReadOnlyMapping, Seqpacket,
    SharedMemory, StaticBytes,
};

const SOCKET: &str = "XTCP_RING_TEST_SOCKET";
const LEN: usize = 64 << 10;

fn memory() -> SharedMemory {
    SharedMemory::create("xtcp-test", LEN, PageSize::Ordinary).expect("memory")
}

#[test]
fn the_size_is_whole_pages_and_sealed() {
    let memory = SharedMemory::create("xtcp-test", 5000, PageSize::Ordinary).expect("memory");
    assert_eq!(memory.len(), 8192);
    assert_eq!(rustix::fs::ftruncate(memory.fd(), 4096), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(memory.fd(), 16384), Err(Errno::PERM));
    assert!(SharedMemory::create("xtcp-test", 0, PageSize::Ordinary).is_err());
    assert!(SharedMemory::create("xtcp-test", usize::MAX, PageSize::Ordinary).is_err());
}

#[test]
fn memory_that_could_shrink_is_refused() {
    let file = |seals: SealFlags| -> OwnedFd {
        use rustix::fs::MemfdFlags;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("xtcp-test", flags).expect("a memfd");
        rustix::fs::ftruncate(&fd, LEN as u64).expect("a size");
        rustix::fs::fcntl_add_seals(&fd, seals).expect("seals");
        fd
    };
    let fixed = SealFlags::SHRINK | SealFlags::GROW;
    assert!(SharedMemory::from_fd(file(fixed), LEN).is_ok());
    assert!(SharedMemory::from_fd(file(fixed), LEN * 2).is_err(), "smaller than announced");
    assert!(SharedMemory::from_fd(file(fixed), LEN / 2).is_err(), "larger than announced");
    assert!(SharedMemory::from_fd(file(SealFlags::GROW), LEN).is_err(), "could shrink");
    assert!(SharedMemory::from_fd(file(SealFlags::SHRINK), LEN).is_err(), "could grow");
    let (pipe, _) = rustix::pipe::pipe().expect("a pipe");
    assert!(SharedMemory::from_fd(pipe, LEN).is_err(), "no memory file");
}

#[test]
fn an_exclusive_mapping_is_the_only_writable_one() {
    let memory = memory();
    let mut bytes = ExclusiveMapping::map(&memory).expect("a mapping").into_static_bytes();
    assert_eq!(bytes.len(), LEN);
    assert!(bytes.iter().all(|byte| *byte == 0));
    for refused in [ExclusiveMapping::map(&memory).map(drop), Mapping::writable(&memory).map(drop)]
    {
        assert_eq!(refused.map_err(|e| e.kind()), Err(io::ErrorKind::ResourceBusy));
    }
    bytes[LEN - 1] = 7;
    let reader = ReadOnlyMapping::map(&memory).expect("a reader");
    assert_eq!(reader.bytes(LEN as u64 - 2, 2), Some(&[0, 7][..]));

    let (back, rest) = std::mem::take(&mut bytes).split_at_mut(100);
    assert_eq!(StaticBytes::reclaim(rest), Ok(false), "100 bytes are still out");
    assert!(ExclusiveMapping::map(&memory).is_err());
    assert_eq!(StaticBytes::reclaim(back), Ok(true));
    let again = Mapping::writable(&memory).expect("free again");
    assert!(ExclusiveMapping::map(&memory).is_err(), "shared now");
    drop(again);
    assert!(ExclusiveMapping::map(&memory).is_ok());
}

#[test]
fn parts_come_back_in_any_order() {
    let memory = memory();
    let mapping = ExclusiveMapping::map(&memory).expect("a mapping");
    let mut parts = mapping.into_static_parts(4);
    assert!(parts.iter().all(|part| part.len() == LEN / 4));
    for (number, part) in parts.iter_mut().enumerate() {
        part.fill(number as u8);
    }
    let reader = ReadOnlyMapping::map(&memory).expect("a reader");
    for number in 0..4 {
        let part = xtcp_ring::worker_part(LEN as u64, 4, number);
        assert_eq!(reader.bytes(part.start, 1), Some(&[number][..]));
        assert_eq!(reader.bytes(part.end - 1, 1), Some(&[number][..]));
    }
    let last = parts.pop().expect("four parts");
    assert_eq!(StaticBytes::reclaim(last), Ok(false));
    let done: Vec<_> = parts.into_iter().map(StaticBytes::reclaim).collect();
    assert_eq!(done, [Ok(false), Ok(false), Ok(true)]);
    let foreign = Box::leak(Box::new([0u8; 16]));
    assert_eq!(StaticBytes::reclaim(foreign), Err(NotMapped));
}

#[test]
fn reading_outside_is_refused() {
    let reader = ReadOnlyMapping::map(&memory()).expect("a reader");
    assert_eq!(reader.bytes(0, LEN).map(<[u8]>::len), Some(LEN));
    assert_eq!(reader.bytes(LEN as u64, 0), Some(&[][..]));
    for (at, len) in [(1, LEN), (LEN as u64, 1), (u64::MAX, 2), (2, usize::MAX)] {
        assert_eq!(reader.bytes(at, len), None, "{len} bytes at {at}");
    }
}

/// Either there are huge pages to take, or the maker is told: nobody finds out by SIGBUS. Whose pages
/// are large has no more memory than was asked for.
#[test]
fn huge_pages_are_had_or_refused_when_made() {
    for page in [PageSize::Huge2M, PageSize::Huge1G] {
        let too_much = SharedMemory::create("xtcp-test", 1 << 44, page);
        assert!(too_much.is_err(), "16 TiB of huge pages");
        let memory = match SharedMemory::create("xtcp-test", 5000, page) {
            Ok(memory) => memory,
            Err(error) => {
                println!("not tested, for there is no page of {} bytes: {error}", page.bytes());
                continue;
            }
        };
        assert_eq!((memory.len(), memory.file_len()), (8192, page.bytes()));
        let copy = || memory.fd().try_clone_to_owned().expect("a copy");
        assert!(SharedMemory::from_fd(copy(), page.bytes() + 1).is_err(), "less than announced");
        let two = SharedMemory::create("xtcp-test", page.bytes() + 1, page);
        if let Ok(two) = two {
            let fd = two.into_fd();
            assert!(SharedMemory::from_fd(fd, 8192).is_err(), "a whole page more than announced");
        }
        let theirs = SharedMemory::from_fd(copy(), 8192).expect("what was announced");
        let bytes = ExclusiveMapping::map(&theirs).expect("mapped").into_static_bytes();
        assert_eq!(bytes.len(), 8192);
        bytes[8191] = 1;
        let reader = ReadOnlyMapping::map(&memory).expect("readable");
        assert_eq!((reader.bytes(8191, 1), reader.bytes(8192, 1)), (Some(&[1][..]), None));
        assert_eq!(StaticBytes::reclaim(bytes), Ok(true));
        drop(ExclusiveMapping::map(&theirs).expect("all of it was unmapped"));
    }
}

/// The receive memory of a pool, as the application's process gets it.
#[test]
fn another_process_reads_and_cannot_write() {
    let path = env::temp_dir().join(format!("xtcp-ring-{}.sock", process::id()));
    let listener = Listener::bind(&path, 0o600).expect("a socket");
    let memory = memory();
    let bytes = ExclusiveMapping::map(&memory).expect("a mapping").into_static_bytes();
    memory.seal_future_write().expect("sealed");
    assert!(memory.is_sealed_future_write().expect("seals"));
    bytes[..5].copy_from_slice(b"first");

    let mut child = Command::new(env::current_exe().expect("our own path"))
        .args(["--exact", "the_other_process", "--ignored", "--nocapture"])
        .env(SOCKET, &path)
        .spawn()
        .expect("the other process");
    let connection = accept(&listener);
    connection.set_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    connection.send(&LEN, &[memory.fd()]).expect("sent");
    let (read, _): (String, _) = connection.recv().expect("an answer");
    assert_eq!(read, "first");
    bytes[..5].copy_from_slice(b"later");
    connection.send(&(), &[]).expect("sent");
    let (read, _): (String, _) = connection.recv().expect("an answer");
    assert_eq!(read, "later", "the same memory, not a copy");
    connection.send(&(), &[]).expect("sent");
    let (attempts, _): (Vec<(String, i32)>, _) = connection.recv().expect("an answer");
    assert!(child.wait().expect("it ends").success());

    let errno = |error: Errno| error.raw_os_error();
    let expected = [
        ("map writable", errno(Errno::PERM)),
        ("make a read-only mapping writable", errno(Errno::ACCESS)),
        ("write the file", errno(Errno::PERM)),
        ("punch a hole", errno(Errno::PERM)),
        ("shrink", errno(Errno::PERM)),
        ("add a seal", errno(Errno::PERM)),
        ("reopen and map writable", errno(Errno::PERM)),
        ("reopen and write", errno(Errno::PERM)),
    ];
    for ((attempt, result), (name, error)) in attempts.iter().zip(expected) {
        assert_eq!((attempt.as_str(), *result), (name, error));
    }
    assert_eq!(attempts.len(), expected.len());
    assert_eq!(&bytes[..5], b"later");
}

fn accept(listener: &Listener) -> Seqpacket {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let fd = listener.fd();
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&limit));
    assert_eq!(ready, Ok(1), "nobody connects");
    listener.accept().expect("accepted").expect("somebody")
}

#[test]
#[ignore = "the other process of another_process_reads_and_cannot_write"]
fn the_other_process() {
    let path = PathBuf::from(env::var_os(SOCKET).expect("started by the test"));
    let connection = Seqpacket::connect(&path, Some(Duration::from_secs(60))).expect("connected");
    let (len, mut files): (usize, _) = connection.recv().expect("the memory");
    let fd = files.pop().expect("a file");
    let memory = SharedMemory::from_fd(fd.try_clone().expect("a copy"), len).expect("memory");
    let reader = ReadOnlyMapping::map(&memory).expect("readable");
    for _ in 0..2 {
        let text = String::from_utf8_lossy(reader.bytes(0, 5).expect("inside")).into_owned();
        connection.send(&text, &[]).expect("sent");
        let ((), _) = connection.recv().expect("go on");
    }
    let attempts = attempts(&fd);
    connection.send(&attempts, &[]).expect("sent");
}

fn attempts(fd: &OwnedFd) -> Vec<(&'static str, i32)> {
    let again = format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(fd));
    let again = rustix::fs::open(again, OFlags::RDWR, Mode::empty()).expect("reopened");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let results = [
        ("map writable", map(fd, ProtFlags::READ | ProtFlags::WRITE).map(drop)),
        ("make a read-only mapping writable", upgrade(fd)),
        ("write the file", rustix::io::pwrite(fd, b"x", 0).map(drop)),
        ("punch a hole", rustix::fs::fallocate(fd, punch, 0, 4096)),
        ("shrink", rustix::fs::ftruncate(fd, 0)),
        ("add a seal", rustix::fs::fcntl_add_seals(fd, SealFlags::WRITE)),
        ("reopen and map writable", map(&again, ProtFlags::READ | ProtFlags::WRITE).map(drop)),
        ("reopen and write", rustix::io::pwrite(&again, b"x", 0).map(drop)),
    ];
    results.map(|(name, result)| (name, result.err().map_or(0, Errno::raw_os_error))).into()
}

fn map(fd: &OwnedFd, protection: ProtFlags) -> Result<*mut std::ffi::c_void, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    unsafe { rustix::mm::mmap(ptr::null_mut(), LEN, protection, MapFlags::SHARED, fd.as_fd(), 0) }
}

fn upgrade(fd: &OwnedFd) -> Result<(), Errno> {
    let start = map(fd, ProtFlags::READ)?;
    // SAFETY: the whole of a mapping made just now, which nothing refers to.
    unsafe { rustix::mm::mprotect(start, LEN, MprotectFlags::READ | MprotectFlags::WRITE) }
}
