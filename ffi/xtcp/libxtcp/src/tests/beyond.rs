//! Drains, successors, transactions and local clients, as C calls them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;

#[test]
fn a_drained_group_says_so_when_everything_was_received() {
    let (appliance, _, gd) = group();
    let client = appliance.connect(PORT);
    let cd = accept(gd);
    appliance.expect_stage(client, Stage::Open);
    assert_eq!(xtcp_drain_group(gd, 10, 3), -libc::EINVAL);
    assert_eq!(xtcp_drain_group(gd + 1, 10, 0), -libc::EBADF);
    assert_eq!(xtcp_drain_group(gd, 10, 0), 0);
    readable(gd);
    assert_eq!(recv(gd, 100), (-libc::ECONNABORTED, cd, vec![]));
    readable(gd);
    for _ in 0..2 {
        assert_eq!(recv(gd, 100), (-libc::ESHUTDOWN, 0, vec![]));
        assert_eq!(xtcp_accept(gd), -libc::ESHUTDOWN);
    }
    let mut now = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: a set and a time of their own.
    let ready = unsafe { xtcp_select(1, &mut set(&[gd]), null_mut(), &mut now) };
    assert_eq!(ready, 0, "it was told");
    assert!(last_error().contains("drained"), "{}", last_error());
    assert_eq!(xtcp_close_group(gd), 0);
}

fn resumed_groups(pd: c_int) -> Vec<(c_int, u16, String)> {
    let mut groups = [XtcpGroup { gd: 0, port: 0, priority: 0, name: [1; 68] }; 4];
    // SAFETY: a list of so many.
    let count = unsafe { xtcp_resumed_groups(pd, groups.as_mut_ptr(), 4) };
    let told = groups[..usize::try_from(count).unwrap()].iter().map(|group| {
        // SAFETY: the library ends each name with a 0.
        let name = unsafe { CStr::from_ptr(group.name.as_ptr()) };
        (group.gd, group.port, name.to_str().unwrap().to_owned())
    });
    told.collect()
}

#[test]
fn a_successor_finds_groups_connections_and_what_was_not_acknowledged() {
    let appliance = Appliance::start();
    appliance.keep();
    let (asking, idle) = thread::scope(|scope| {
        let predecessor = scope.spawn(|| {
            let pd = open_pool(&appliance);
            assert!(resumed_groups(pd).is_empty());
            assert_eq!(xtcp_resumed_connections(pd), 0);
            let gd = open_group(pd, PORT, &[]);
            let asking = appliance.connect(PORT);
            let cd = accept(gd);
            let idle = appliance.connect(PORT);
            accept(gd);
            appliance.expect_stage(idle, Stage::Open);
            appliance.send(asking, b"one\ntwo\n");
            readable(gd);
            assert_eq!(recv(gd, 100).2, b"one\ntwo\n");
            assert_eq!(send(gd, cd, 4, b"1"), 1);
            appliance.expect(asking, "1");
            (asking, idle)
        });
        predecessor.join().unwrap()
    });
    appliance.expect_all_gone();

    let pd = open_pool(&appliance);
    let [(gd, port, name)] = resumed_groups(pd).try_into().unwrap();
    assert_eq!((port, name.as_str()), (PORT, "inet6-7777"));
    assert_eq!(open_group(pd, PORT, &[]), gd, "it is open");
    go_on(gd, || xtcp_resumed_connections(pd) == 2);
    readable(gd);
    let (status, cd, bytes) = recv(gd, 100);
    assert_eq!((status, bytes.as_slice()), (4, &b"two\n"[..]));
    let told = [xtcp_next_resumed(gd), xtcp_next_resumed(gd)];
    assert!(told[0] > 0 && told[1] > 0 && told[0] != told[1] && told.contains(&cd));
    assert_eq!(xtcp_next_resumed(gd), -libc::ENOENT);
    assert_eq!(send(gd, cd, 4, b"2"), 1);
    appliance.expect(asking, "2");
    appliance.expect_acknowledged(asking, 8);
    let silent = told.into_iter().find(|number| *number != cd).unwrap();
    assert_eq!(send(gd, silent, 0, b"news"), 4);
    appliance.expect(idle, "news");
    assert_eq!(xtcp_resumed_connections(pd + 7), -libc::ENOTCONN);
    assert_eq!(xtcp_next_resumed(gd + 7), -libc::EBADF);
}

fn sending(gd: c_int, cd: c_int, ackd: usize, bytes: &[u8]) -> XtcpSending {
    let (buf, len) = (bytes.as_ptr().cast(), bytes.len());
    XtcpSending { gd, cd, flags: 0, result: -1, ackd, buf, len }
}

fn transact(sendings: &mut [XtcpSending]) -> c_int {
    let count = c_int::try_from(sendings.len()).unwrap();
    // SAFETY: the list and its buffers are slices.
    unsafe { xtcp_transact(sendings.as_mut_ptr(), count) }
}

#[test]
fn a_transaction_acknowledges_and_sends_or_does_neither() {
    let (appliance, pd, gd) = group();
    let (from, to) = (appliance.connect(PORT), appliance.connect(PORT));
    let (source, target) = (accept(gd), accept(gd));
    appliance.expect_stage(to, Stage::Open);
    appliance.send(from, b"message");
    readable(gd);
    assert_eq!(recv(gd, 100), (7, source, b"message".to_vec()));
    let mut both = [sending(gd, source, 7, b""), sending(gd, target, 0, b"message")];
    assert_eq!(transact(&mut both), 0, "{}", last_error());
    assert_eq!((both[0].result, both[1].result), (0, 7));
    // It is done when the call returns.
    assert_eq!(appliance.acknowledged(from), 7);
    assert_eq!(appliance.expect(to, "message"), "message");

    appliance.send(from, b"more");
    readable(gd);
    assert_eq!(recv(gd, 100).0, 4);
    // In steps, and too much in all.
    let mut over = [sending(gd, source, 3, b""), sending(gd, source, 2, b"x")];
    assert_eq!(transact(&mut over), -libc::EINVAL);
    assert_eq!(over[1].result, -libc::EINVAL);
    let mut stale = [sending(gd, source, 4, b""), sending(gd, target + 50, 0, b"x")];
    assert_eq!(transact(&mut stale), -libc::ENOTCONN);
    let other = open_pool(&appliance);
    let far_gd = open_group(other, PORT + 1, &[]);
    appliance.connect(PORT + 1);
    let far = accept(far_gd);
    let mut several = [sending(gd, source, 4, b""), sending(far_gd, far, 0, b"x")];
    assert_eq!(transact(&mut several), -libc::EXDEV);
    let mut flags = [XtcpSending { flags: 1, ..sending(gd, source, 4, b"") }];
    assert_eq!(transact(&mut flags), -libc::EINVAL);
    assert_eq!(appliance.acknowledged(from), 7);
    assert_eq!(transact(&mut [sending(gd, source, 4, b"done")]), 0);
    assert_eq!(appliance.acknowledged(from), 11);
    assert_eq!(transact(&mut []), 0);
    assert_eq!(xtcp_close_pool(other), 0);
    assert_eq!(xtcp_close_pool(pd), 0);
}

#[test]
fn local_clients_are_served_by_the_same_calls() {
    let (appliance, pd, tcp) = group();
    let open = |port, pairs: &[(&str, &str)]| {
        let options = options(pairs);
        let list = options.list.as_ptr();
        // SAFETY: the list ends with a NULL key.
        unsafe { xtcp_open_group_ex(pd, libc::PF_UNIX, libc::SOCK_STREAM, 0, port, list) }
    };
    let gd = open(PORT, &[]);
    assert!(gd > 0, "{}", last_error());
    let path = appliance.run_dir().join("xtcp/test-7777.sock");
    let mut client = UnixStream::connect(&path).unwrap();
    let cd = accept(gd);
    client.write_all(b"question").unwrap();
    let remote = appliance.connect(PORT);
    let other = accept(tcp);
    appliance.send(remote, b"over TCP");
    readable(gd);
    readable(tcp);
    assert_eq!(recv(gd, 100), (8, cd, b"question".to_vec()));
    assert_eq!(recv(tcp, 100), (8, other, b"over TCP".to_vec()));
    assert_eq!(send(gd, cd, 8, b"answer"), 6);
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");

    let (mut process, mut user) = (0, 0);
    // SAFETY: places of the right types.
    assert_eq!(unsafe { xtcp_peer(gd, cd, &mut process, &mut user) }, 0);
    assert_eq!(process.unsigned_abs(), std::process::id());
    // SAFETY: none.
    assert_eq!(unsafe { xtcp_peer(tcp, other, null_mut(), null_mut()) }, -libc::EAFNOSUPPORT);
    // SAFETY: plain numbers, for which zeros are a value.
    let mut local: libc::sockaddr_storage = unsafe { mem::zeroed() };
    // SAFETY: a place of the right type, and none.
    assert_eq!(unsafe { xtcp_pars_ex(gd, cd, null_mut(), &mut local) }, 0);
    assert_eq!(i32::from(local.ss_family), libc::AF_UNIX);
    // SAFETY: plain numbers, for which zeros are a value.
    let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
    // SAFETY: a place of the right type.
    assert_eq!(unsafe { xtcp_pars(gd, cd, &mut address) }, -libc::EAFNOSUPPORT);
    let mut mixed = [sending(gd, cd, 0, b"x"), sending(tcp, other, 8, b"x")];
    assert_eq!(transact(&mut mixed), -libc::EXDEV);

    let mut timeout_ms = 0;
    // SAFETY: a place of the right type.
    let file = unsafe { xtcp_arm(pd, &mut timeout_ms) };
    assert!(file >= 0, "{}", last_error());
    client.write_all(b"more").unwrap();
    let mut sleep = libc::pollfd { fd: file, events: libc::POLLIN, revents: 0 };
    // SAFETY: one place.
    assert_eq!(unsafe { libc::poll(&mut sleep, 1, timeout_ms) }, 1);
    assert_eq!(recv(gd, 100), (4, cd, b"more".to_vec()));
    assert_eq!(send(gd, cd, 4, b""), 0);
    assert_eq!(open(PORT, &[]), gd, "it is open");
    let taken = path.to_str().unwrap();
    assert_eq!(open(81, &[("path", taken), ("nagle", "1")]), -libc::EADDRINUSE);
    assert_eq!(open(82, &[("path", "/nowhere/at/all")]), -libc::ENOENT);
    assert_eq!(open_group(pd, 83, &[("path", taken)]), -libc::EINVAL);
    drop(client);
    readable(gd);
    assert_eq!(recv(gd, 100), (0, cd, vec![]));
    assert_eq!(xtcp_close(gd, cd), 0);
    assert_eq!(xtcp_close_group(gd), 0);
    assert!(!path.exists());
}

#[test]
fn pools_of_one_thread_are_served_together_and_end_alone() {
    let (appliance, first, one) = group();
    let second = open_pool(&appliance);
    let two = open_group(second, PORT + 1, &[]);
    assert!(second > first && two > one, "{}", last_error());
    assert_eq!(appliance.applications(), ["test", "test"], "each has memory of its own");

    let (here, there) = (appliance.connect(PORT), appliance.connect(PORT + 1));
    for gd in [one, two] {
        assert_eq!(select(&mut set(&[]), &mut set(&[gd])), 1, "{}", last_error());
    }
    let mut waiting = set(&[one, two]);
    assert_eq!(select(&mut set(&[]), &mut waiting), 2, "groups of both pools");
    let (cd, of_second) = (xtcp_accept(one), xtcp_accept(two));
    assert!(cd > 0 && of_second > 0, "{}", last_error());
    appliance.send(here, b"here");
    appliance.send(there, b"there");
    readable(one);
    readable(two);
    assert_eq!(recv(two, 9), (5, of_second, b"there".to_vec()));
    assert_eq!(recv(one, 9), (4, cd, b"here".to_vec()));
    assert_eq!(send(one, cd, 5, b"x"), -libc::EINVAL, "what the other pool was given is not its");

    assert_eq!(xtcp_close_pool(second), 0);
    assert_eq!(send(two, of_second, 5, b"gone"), -libc::EBADF);
    assert_eq!(send(one, cd, 4, b"still"), 5);
    appliance.expect(here, "still");
    assert_eq!(xtcp_close_pool(first), 0);
}

#[test]
fn a_client_that_is_refused_is_reset_and_the_next_is_not() {
    let (appliance, pd, gd) = group();
    assert_eq!(xtcp_refuse(gd), -libc::EAGAIN, "nobody waits");
    assert_eq!(xtcp_refuse(gd + 1), -libc::EBADF);
    let unwanted = appliance.connect(PORT);
    assert_eq!(select(&mut set(&[]), &mut set(&[gd])), 1);
    assert_eq!(xtcp_refuse(gd), 0, "{}", last_error());
    let wanted = appliance.connect(PORT);
    let cd = accept(gd);
    appliance.expect_stage(unwanted, Stage::Reset);
    appliance.expect_stage(wanted, Stage::Open);
    assert_eq!(recv(gd, 9), (-libc::EAGAIN, 0, Vec::new()), "the refused was nobody's");
    assert_eq!(xtcp_close(gd, cd), 0);
    assert_eq!(xtcp_close_pool(pd), 0);
}
