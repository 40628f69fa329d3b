//! The C functions as C calls them, against an appliance that is played.

mod appliance;
mod beyond;
mod programs;

use std::ffi::{CStr, CString, c_int, c_void};
use std::mem;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use appliance::{Appliance, Stage};
use library::numbered::NumberSet;
use xtcp_ring::message::{Accept, Acknowledge, Family};
use xtcp_ring::{Mapping, PageSize, SharedMemory};

use crate::beyond::*;
use crate::calls::*;

/// The first port most tests use.
const PORT: u16 = 7777;

/// Options, kept alive with their list.
struct Options {
    _texts: Vec<(CString, CString)>,
    list: Vec<XtcpOption>,
}

fn options(pairs: &[(&str, &str)]) -> Options {
    let text = |text: &str| CString::new(text).unwrap();
    let texts: Vec<_> = pairs.iter().map(|(key, value)| (text(key), text(value))).collect();
    let mut list: Vec<XtcpOption> = texts
        .iter()
        .map(|(key, value)| XtcpOption { key: key.as_ptr(), value: value.as_ptr() })
        .collect();
    list.push(XtcpOption { key: null(), value: null() });
    Options { _texts: texts, list }
}

/// A pool at a played appliance.
fn open_pool(appliance: &Appliance) -> c_int {
    let run_dir = appliance.run_dir().to_str().unwrap();
    let options = options(&[("run_dir", run_dir), ("application", "test")]);
    // SAFETY: the list ends with a NULL key.
    unsafe { xtcp_open_pool(0, options.list.as_ptr()) }
}

fn open_group(pd: c_int, port: u16, pairs: &[(&str, &str)]) -> c_int {
    let options = options(pairs);
    let list = options.list.as_ptr();
    // SAFETY: the list ends with a NULL key.
    unsafe { xtcp_open_group_ex(pd, libc::PF_INET6, libc::SOCK_STREAM, 0, port, list) }
}

/// A played appliance, a pool and a group on [`PORT`].
fn group() -> (Appliance, c_int, c_int) {
    let appliance = Appliance::start();
    let pd = open_pool(&appliance);
    assert!(pd > 0, "{}", last_error());
    let gd = open_group(pd, PORT, &[]);
    assert!(gd > 0, "{}", last_error());
    (appliance, pd, gd)
}

fn last_error() -> String {
    // SAFETY: a string until this thread's next call.
    unsafe { CStr::from_ptr(xtcp_last_error()) }.to_str().unwrap().to_owned()
}

/// Receives into a buffer of this size: what was returned, the connection, the bytes.
fn recv(gd: c_int, len: usize) -> (c_int, c_int, Vec<u8>) {
    let mut buf = vec![0_u8; len];
    let mut cd = -7;
    // SAFETY: the buffer is as long as said, and `cd` is a place.
    let status = unsafe { xtcp_recv(gd, &mut cd, buf.as_mut_ptr().cast(), len) };
    buf.truncate(usize::try_from(status).unwrap_or(0));
    (status, cd, buf)
}

fn send(gd: c_int, cd: c_int, ackd: usize, bytes: &[u8]) -> c_int {
    // SAFETY: the bytes are a slice.
    unsafe { xtcp_send(gd, cd, ackd, bytes.as_ptr().cast(), bytes.len()) }
}

fn set(gds: &[c_int]) -> NumberSet {
    let mut set = NumberSet::default();
    gds.iter().for_each(|gd| set.insert(*gd));
    set
}

/// Waits for what must happen.
fn select(read: &mut NumberSet, accept: &mut NumberSet) -> c_int {
    let mut patience = libc::timeval { tv_sec: 60, tv_usec: 0 };
    // SAFETY: sets and a time of their own.
    unsafe { xtcp_select(1024, read, accept, &mut patience) }
}

/// Waits until the group can be received from.
fn readable(gd: c_int) {
    assert_eq!(select(&mut set(&[gd]), &mut set(&[])), 1, "{}", last_error());
}

/// Lets the library go on until something has happened, as a server's loop would.
fn go_on(gd: c_int, mut has_happened: impl FnMut() -> bool) {
    while !has_happened() {
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        // SAFETY: a set and a time of their own.
        let status = unsafe { xtcp_select(1, &mut set(&[gd]), null_mut(), &mut time) };
        assert!(status >= 0, "{}", last_error());
    }
}

/// Waits for a client and accepts it.
fn accept(gd: c_int) -> c_int {
    assert_eq!(select(&mut set(&[]), &mut set(&[gd])), 1, "{}", last_error());
    let cd = xtcp_accept(gd);
    assert!(cd > 0, "{}", last_error());
    cd
}

#[test]
fn an_exchange_is_acknowledged_by_its_answer() {
    let (appliance, pd, gd) = group();
    let client = appliance.connect(PORT);
    let cd = accept(gd);
    assert_eq!(xtcp_accept(gd), -libc::EAGAIN);
    assert_eq!(recv(gd, 9), (-libc::EAGAIN, 0, Vec::new()));
    appliance.send(client, b"one\ntwo\nthr");
    readable(gd);
    assert_eq!(recv(gd, 100), (11, cd, b"one\ntwo\nthr".to_vec()));
    assert_eq!(send(gd, cd, 4, b"1\n"), 2);
    appliance.expect(client, "1\n");
    assert_eq!(appliance.acknowledged(client), 4);
    assert_eq!(recv(gd, 100), (7, cd, b"two\nthr".to_vec()), "the rest is given again");
    assert_eq!(send(gd, cd, 8, b"2\n"), -libc::EINVAL, "more than was given");
    assert!(last_error().contains("8 bytes acknowledged where 7 are given"), "{}", last_error());
    assert_eq!(send(gd, cd, 4, &[]), 0);
    appliance.expect_acknowledged(client, 8);
    appliance.send(client, b"ee\n");
    let mut all = Vec::new();
    while all.len() < 6 {
        readable(gd);
        all = recv(gd, 100).2;
    }
    assert_eq!(all, b"three\n");
    assert_eq!(send(gd, cd, 6, b"3\n"), 2);
    assert_eq!(appliance.expect(client, "3\n"), "3\n");
    assert_eq!(appliance.answers(client), (2, 2), "each in one segment with its acknowledgement");
    assert_eq!(xtcp_close(gd, cd), 0);
    assert_eq!(xtcp_close(gd, cd), -libc::ENOTCONN);
    go_on(gd, || appliance.stage(client) == Stage::Closed);
    assert_eq!(xtcp_close_pool(pd), 0);
    appliance.expect_all_gone();
}

#[test]
fn a_server_may_speak_and_close_before_the_handshake_is_complete() {
    let (appliance, _, gd) = group();
    let client = appliance.connect(PORT);
    appliance.stall(true);
    let cd = accept(gd);
    assert_eq!(send(gd, cd, 0, b"busy\n"), 5);
    assert_eq!(xtcp_close(gd, cd), 0);
    appliance.stall(false);
    go_on(gd, || appliance.stage(client) == Stage::Closed);
    appliance.expect(client, "busy\n");
}

#[test]
fn a_greeting_goes_out_while_the_server_sleeps() {
    let (appliance, _, gd) = group();
    let client = appliance.connect(PORT);
    appliance.stall(true);
    let cd = accept(gd);
    assert_eq!(send(gd, cd, 0, b"hello\n"), 6);
    thread::scope(|scope| {
        scope.spawn(|| {
            appliance.stall(false);
            appliance.expect(client, "hello\n");
            appliance.send(client, b"hello yourself\n");
        });
        readable(gd);
    });
    assert_eq!(recv(gd, 99), (15, cd, b"hello yourself\n".to_vec()));
}

#[test]
fn ends_are_told_with_the_connection() {
    let (appliance, _, gd) = group();
    let clients = [(); 3].map(|()| appliance.connect(PORT));
    let cds = clients.map(|_| accept(gd));
    clients.iter().for_each(|client| appliance.expect_stage(*client, Stage::Open));
    appliance.finish(clients[0]);
    appliance.end(clients[1], 1);
    appliance.end(clients[2], 2);
    let mut told = Vec::new();
    while told.len() < 3 {
        readable(gd);
        let (status, cd, _) = recv(gd, 9);
        told.push((status, cd));
    }
    let wanted = [(0, cds[0]), (-libc::ECONNRESET, cds[1]), (-libc::ETIMEDOUT, cds[2])];
    assert_eq!(told, wanted);
    assert!(last_error().contains("does not acknowledge any more"), "{}", last_error());
    assert_eq!(send(gd, cds[1], 0, b"x"), -libc::ENOTCONN);
    assert_eq!(send(gd, cds[0], 0, b"x"), 1, "one that sends no more can be sent to");
    assert_eq!(xtcp_abort(gd, cds[0]), 0);
    appliance.expect_stage(clients[0], Stage::Reset);
    assert_eq!(xtcp_abort(gd, cds[0]), -libc::ENOTCONN);
}

#[test]
fn select_takes_what_select_takes() {
    let (appliance, pd, gd) = group();
    let other = open_group(pd, PORT + 1, &[]);
    let client = appliance.connect(PORT);
    appliance.connect(PORT + 1);
    let mut read = set(&[gd, other]);
    let mut comers = set(&[gd, other]);
    while comers.len() == 2 && select(&mut read, &mut comers) < 2 {
        (read, comers) = (set(&[gd, other]), set(&[gd, other]));
    }
    assert!(read.is_empty() && comers.contains(gd) && comers.contains(other));
    accept(gd);
    appliance.send(client, b"x");
    let (mut read, mut comers) = (set(&[gd]), set(&[gd]));
    assert_eq!(select(&mut read, &mut comers), 1);
    assert!(read.contains(gd) && comers.is_empty());

    let call = |n, read: *mut NumberSet, accept: *mut NumberSet, tv_sec, tv_usec| {
        let mut time = libc::timeval { tv_sec, tv_usec };
        // SAFETY: sets that live, and a time.
        unsafe { xtcp_select(n, read, accept, &mut time) }
    };
    let mut two = set(&[gd, other]);
    assert_eq!(call(1, &mut two, null_mut(), 0, 0), -libc::EINVAL, "n is too small");
    assert_eq!(call(-1, null_mut(), null_mut(), 0, 0), -libc::EINVAL);
    assert_eq!(call(2, &mut two, null_mut(), 0, 1_000_000), -libc::EINVAL);
    assert_eq!(call(2, &mut two, null_mut(), -1, 0), -libc::EINVAL);
    let same: *mut NumberSet = &mut two;
    assert_eq!(call(2, same, same, 0, 0), -libc::EINVAL);
    assert_eq!(call(0, null_mut(), null_mut(), 0, 1000), 0, "nobody to wait for is a sleep");
    assert_eq!(call(2, null_mut(), &mut two, 0, 0), 1);
    assert!(two.contains(other) && !two.contains(gd));
    assert_eq!(xtcp_close_group(other), 0);
    assert_eq!(call(2, null_mut(), &mut two, 0, 0), -libc::EBADF);
    assert!(last_error().contains("not of an open group"), "{}", last_error());
}

#[test]
fn a_signal_ends_a_select() {
    extern "C" fn nothing(_: c_int) {}
    let (_appliance, _, gd) = group();
    let handler: extern "C" fn(c_int) = nothing;
    // SAFETY: the handler does nothing, and no other test has this signal.
    unsafe { libc::signal(libc::SIGUSR2, handler as libc::sighandler_t) };
    // SAFETY: asks for this thread's own handle.
    let sleeper = unsafe { libc::pthread_self() };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = &ended;
        scope.spawn(move || {
            // One of them comes while the other thread sleeps.
            while !ended.load(Ordering::Relaxed) {
                // SAFETY: that thread waits for this one.
                unsafe { libc::pthread_kill(sleeper, libc::SIGUSR2) };
                thread::yield_now();
            }
        });
        let mut waits = set(&[gd]);
        let interrupted = select(&mut waits, &mut set(&[]));
        ended.store(true, Ordering::Relaxed);
        assert_eq!(interrupted, -libc::EINTR);
        assert!(waits.contains(gd), "as it was");
    });
}

#[test]
fn groups_are_opened_as_asked() {
    let (appliance, pd, _) = group();
    let plain = appliance.group(PORT);
    assert_eq!((plain.name.as_str(), plain.family), ("inet6-7777", Family::V6));
    assert_eq!(plain.accept, Accept::ByApplication { timeout_ms: 0 });
    assert_eq!(plain.acknowledge, Acknowledge::ByApplication { deadline_ms: 0 });
    let pairs = [
        ("name", "chat"),
        ("dual_stack", "1"),
        ("accept", "automatic"),
        ("acknowledge_after_ms", "200"),
        ("window_max", "65536"),
        ("nagle", "1"),
    ];
    let gd = open_group(pd, 80, &pairs);
    assert!(gd > 0);
    let chat = appliance.group(80);
    assert_eq!((chat.name.as_str(), chat.family, chat.nagle), ("chat", Family::Dual, true));
    assert_eq!(chat.acknowledge, Acknowledge::ByApplication { deadline_ms: 200 });
    assert_eq!((chat.accept, chat.window_max), (Accept::Automatic, 65536));
    assert_eq!(open_group(pd, 81, &[("windw_max", "1")]), -libc::EINVAL);
    assert!(last_error().contains("windw_max") && last_error().contains("window_max"));
    assert_eq!(open_group(pd, 1, &[]), -libc::EADDRINUSE);
    assert!(last_error().contains("port 1 is the test's"), "{}", last_error());
    assert_eq!(open_group(pd + 99, 80, &[]), -libc::ENOTCONN);
    assert_eq!(xtcp_open_group(libc::PF_INET, libc::SOCK_STREAM, 0, 80), -libc::ENOTCONN);
    assert_eq!(xtcp_close_group(gd), 0);
    assert_eq!(xtcp_close_group(gd), -libc::EBADF);
    assert_eq!(xtcp_finalize(), -libc::ENOTCONN);
}

#[test]
fn an_automatic_group_tells_a_connection_with_its_first_bytes() {
    let (appliance, pd, _) = group();
    let gd = open_group(pd, 80, &[("accept", "automatic")]);
    let client = appliance.connect_automatically(80);
    appliance.send(client, b"hello");
    readable(gd);
    let (status, cd, _) = recv(gd, 9);
    assert!(status == 5 && cd > 0);
    assert_eq!(send(gd, cd, 5, b"hi"), 2);
    appliance.expect(client, "hi");
}

#[test]
fn pars_tells_addresses_of_either_family() {
    let appliance = Appliance::start();
    let pd = open_pool(&appliance);
    let stream = libc::SOCK_STREAM;
    // SAFETY: no options.
    let v4 = unsafe { xtcp_open_group_ex(pd, libc::PF_INET, stream, 0, 80, null()) };
    let v6 = open_group(pd, 81, &[]);
    appliance.connect(80);
    appliance.connect(81);
    let (four, six) = (accept(v4), accept(v6));
    // SAFETY: plain numbers, for which zeros are a value.
    let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
    // SAFETY: a place of the right type.
    assert_eq!(unsafe { xtcp_pars(v4, four, &mut address) }, 0);
    assert_eq!(address.sin_addr.s_addr.to_ne_bytes(), [10, 77, 0, 1]);
    assert_eq!(u16::from_be(address.sin_port), 40000);
    // SAFETY: as above.
    assert_eq!(unsafe { xtcp_pars(v6, six, &mut address) }, -libc::EAFNOSUPPORT);
    // SAFETY: plain numbers, for which zeros are a value.
    let mut local: libc::sockaddr_storage = unsafe { mem::zeroed() };
    // SAFETY: a place of the right type, and none.
    assert_eq!(unsafe { xtcp_pars_ex(v6, six, null_mut(), &mut local) }, 0);
    assert_eq!(i32::from(local.ss_family), libc::AF_INET6);
    // SAFETY: none.
    assert_eq!(unsafe { xtcp_pars(v4, four, null_mut()) }, -libc::EFAULT);
    // SAFETY: none.
    assert_eq!(unsafe { xtcp_pars_ex(v4, six + 5, null_mut(), null_mut()) }, -libc::ENOTCONN);
    let mut handle = 0;
    // SAFETY: a place of the right type.
    assert_eq!(unsafe { xtcp_handle(v6, six, &mut handle) }, 0);
    assert_eq!(xtcp_find(v6, handle), six);
    assert_eq!(xtcp_find(v4, handle), -libc::ENOTCONN);
}

#[test]
fn pointers_to_nowhere_are_refused() {
    let (appliance, _, gd) = group();
    let client = appliance.connect(PORT);
    let cd = accept(gd);
    appliance.send(client, b"kept");
    readable(gd);
    let (mut place, mut buf) = (0, [0_u8; 8]);
    let bytes = buf.as_mut_ptr().cast::<c_void>();
    // SAFETY: what is there is as long as said.
    unsafe {
        assert_eq!(xtcp_recv(gd, null_mut(), bytes, 8), -libc::EFAULT);
    }
    // SAFETY: as above.
    assert_eq!(unsafe { xtcp_recv(gd, &mut place, null_mut(), 8) }, -libc::EFAULT);
    // SAFETY: as above.
    assert_eq!(unsafe { xtcp_recv(gd, &mut place, bytes, 0) }, -libc::EINVAL);
    // SAFETY: nothing is read of nowhere.
    assert_eq!(unsafe { xtcp_send(gd, cd, 0, null(), 8) }, -libc::EFAULT);
    // SAFETY: as above.
    assert_eq!(unsafe { xtcp_send(gd, cd, 0, null(), 0) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { xtcp_send(gd, cd, 0, bytes, usize::MAX) }, -libc::EMSGSIZE);
    // SAFETY: as above.
    assert_eq!(unsafe { xtcp_recv_batch(gd, null_mut(), 8) }, -libc::EFAULT);
    // SAFETY: as above.
    assert_eq!(unsafe { xtcp_send_batch(null_mut(), -1) }, -libc::EINVAL);
    // SAFETY: as above.
    assert_eq!(unsafe { xtcp_arm(0, null_mut()) }, -libc::EFAULT);
    assert_eq!(recv(gd, 8), (4, cd, b"kept".to_vec()), "nothing was lost by that");
}

/// The bytes of a batch's element.
fn text(received: &XtcpReceived) -> Vec<u8> {
    if received.piece_count == 0 {
        return Vec::new();
    }
    // SAFETY: there are so many, until the next batch.
    let pieces = unsafe { std::slice::from_raw_parts(received.pieces, received.piece_count) };
    let bytes = |piece: &XtcpPiece| {
        // SAFETY: there are so many bytes, until they are acknowledged.
        unsafe { std::slice::from_raw_parts(piece.at.cast::<u8>(), piece.len) }.to_vec()
    };
    pieces.iter().flat_map(bytes).collect()
}

#[test]
fn batches_are_read_in_place_and_answered_together() {
    let (appliance, _, gd) = group();
    let clients = [(); 5].map(|()| appliance.connect(PORT));
    let cds = clients.map(|_| accept(gd));
    clients.iter().for_each(|client| appliance.expect_stage(*client, Stage::Open));
    appliance.send(clients[0], b"in ");
    appliance.send(clients[0], b"two pieces");
    for client in &clients[1..4] {
        appliance.send(*client, b"one piece");
    }
    appliance.end(clients[4], 1);
    readable(gd);
    // SAFETY: numbers and pointers, for which zeros are a value.
    let mut batch: [XtcpReceived; 8] = unsafe { mem::zeroed() };
    // SAFETY: there are eight.
    let count = unsafe { xtcp_recv_batch(gd, batch.as_mut_ptr(), 8) };
    assert_eq!(count, 5, "{}", last_error());
    let told: Vec<_> = batch[..5].iter().map(|r| (r.cd, r.status, text(r))).collect();
    assert_eq!(told[0], (cds[0], 13, b"in two pieces".to_vec()));
    for index in 1..4 {
        assert_eq!(told[index], (cds[index], 9, b"one piece".to_vec()));
    }
    assert_eq!(told[4], (cds[4], -libc::ECONNRESET, Vec::new()));
    assert_eq!((batch[0].piece_count, batch[1].piece_count, batch[0].offset), (2, 1, 0));
    assert_eq!(xtcp_find(gd, batch[2].handle), cds[2]);

    let answer = b"answer";
    let mut sendings = [0, 1, 2, 4].map(|index| XtcpSending {
        gd,
        cd: cds[index],
        flags: c_int::from(index == 1),
        result: 7,
        ackd: if index == 2 { 10 } else { 9 },
        buf: answer.as_ptr().cast(),
        len: answer.len(),
    });
    // SAFETY: there are four, each with its buffer.
    assert_eq!(unsafe { xtcp_send_batch(sendings.as_mut_ptr(), 4) }, 2);
    let results = sendings.map(|sending| sending.result);
    assert_eq!(results, [6, 6, -libc::EINVAL, -libc::ENOTCONN]);
    for client in &clients[..2] {
        appliance.expect(*client, "answer");
        appliance.expect_acknowledged(*client, 9);
    }
    sendings[0].flags = 2;
    // SAFETY: there is one.
    assert_eq!(unsafe { xtcp_send_batch(sendings.as_mut_ptr(), 1) }, 0);
    assert_eq!(sendings[0].result, -libc::EINVAL);
    assert_eq!(recv(gd, 99), (4, cds[0], b"eces".to_vec()), "the rest of the first");
    // SAFETY: there are eight.
    assert_eq!(unsafe { xtcp_recv_batch(gd, batch.as_mut_ptr(), 8) }, -libc::EAGAIN);
}

#[test]
fn a_tied_answer_without_room_leaves_the_request() {
    let (appliance, _, gd) = group();
    let client = appliance.connect(PORT);
    let cd = accept(gd);
    appliance.send(client, b"question");
    readable(gd);
    assert_eq!(recv(gd, 99).0, 8);
    appliance.stall(true);
    let fill = vec![1; 16 << 10];
    let mut filled = 0;
    let status = loop {
        let status = send(gd, cd, 0, &fill);
        if status < 0 {
            break status;
        }
        filled += fill.len();
    };
    assert_eq!(status, -libc::EAGAIN, "a client that does not read has a bound");
    // SAFETY: six bytes.
    let tied = || unsafe { xtcp_answer(gd, cd, 8, b"answer".as_ptr().cast(), 6) };
    let status = tied();
    // What is left of the bound may have room for so little.
    if status == -libc::EAGAIN {
        assert_eq!(recv(gd, 99).0, -libc::EAGAIN);
        appliance.stall(false);
        readable(gd);
        assert_eq!(recv(gd, 99), (8, cd, b"question".to_vec()));
        assert_eq!(tied(), 6);
    }
    appliance.stall(false);
    let mut got = 0;
    go_on(gd, || {
        got += appliance.expect_bytes(client, 0).len();
        got == filled + 6
    });
    appliance.expect_acknowledged(client, 8);
}

#[test]
fn a_loop_of_ones_own_sleeps_on_the_file() {
    let (appliance, pd, gd) = group();
    let mut timeout_ms = 7;
    // SAFETY: a place of the right type.
    let mut arm = || (unsafe { xtcp_arm(pd, &mut timeout_ms) }, timeout_ms);
    let (file, timeout) = arm();
    assert!(file >= 0 && timeout == -1);
    appliance.connect(PORT);
    let mut files = [libc::pollfd { fd: file, events: libc::POLLIN, revents: 0 }];
    // SAFETY: one file to look at.
    assert_eq!(unsafe { libc::poll(files.as_mut_ptr(), 1, -1) }, 1);
    assert_eq!(arm().0, -libc::EAGAIN);
    assert!(xtcp_accept(gd) > 0);
}

#[test]
fn the_death_of_the_dataplane_is_told_to_everybody() {
    let (appliance, pd, gd) = group();
    appliance.die();
    assert_eq!(select(&mut set(&[gd]), &mut set(&[])), -libc::ENETDOWN);
    assert!(last_error().contains("attach again"), "{}", last_error());
    assert_eq!(xtcp_close_pool(pd), 0);
    assert_eq!(xtcp_close_pool(pd), -libc::ENOTCONN);
    assert_eq!(xtcp_accept(gd), -libc::EBADF);
}

#[test]
fn a_pool_is_its_thread_s() {
    let (appliance, pd, gd) = group();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            assert_eq!(last_error(), "no call of this thread has failed");
            assert_eq!(xtcp_accept(gd), -libc::EBADF);
            assert_eq!(xtcp_close_pool(pd), -libc::ENOTCONN);
            let own = open_group(open_pool(&appliance), PORT + 1, &[]);
            assert!(own > 0 && own != gd);
            own
        });
        let other = other.join().unwrap();
        assert_eq!(xtcp_accept(other), -libc::EBADF);
    });
    appliance.connect(PORT);
    accept(gd);
    assert_eq!(appliance.applications(), ["test", "test"]);
}

/// What a child does to the pools it was born with. It has one thread of its parent's, and locks
/// as they were: another thread maps and unmaps all the time, so some child is born while it does.
#[test]
fn a_forked_child_has_no_pools() {
    let (appliance, pd, gd) = group();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let memory = SharedMemory::create("forks", 4096, PageSize::Ordinary).unwrap();
            while !enough.load(Ordering::Relaxed) {
                drop(Mapping::writable(&memory).unwrap());
            }
        });
        let wrong = (0..50).map(|_| in_a_child(pd, gd)).find(|status| *status != 0);
        enough.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None, "14: it waited for ever");
    });
    appliance.connect(PORT);
    assert!(accept(gd) > 0, "the parent's are as they were");
}

/// How a child ends that uses its parent's pool and group: with 0 if it has neither.
fn in_a_child(pd: i32, gd: i32) -> i32 {
    // SAFETY: the child makes calls that allocate little, and ends without running anything of
    // the parent's.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no handler is set, so a child that waits for ever is ended.
        unsafe { libc::alarm(20) };
        let right = xtcp_accept(gd) == -libc::EBADF && xtcp_close_pool(pd) == -libc::ENOTCONN;
        // SAFETY: ends the child.
        unsafe { libc::_exit(if right { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: our own child.
    let ended = unsafe { libc::waitpid(child, &mut status, 0) };
    if ended == child { status } else { -1 }
}

#[test]
fn nobody_there_is_a_sentence() {
    let options = options(&[("run_dir", "/nonexistent")]);
    // SAFETY: the list ends with a NULL key.
    assert_eq!(unsafe { xtcp_open_pool(0, options.list.as_ptr()) }, -libc::ENOENT);
    assert!(last_error().contains("/nonexistent/xtcp/xtcpd.sock"), "{}", last_error());
}
