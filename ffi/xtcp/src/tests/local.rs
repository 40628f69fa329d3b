//! Groups of local clients, with the kernel's own sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::numbered::{FIRST_POOL, NoRoom, NumberSet, Pools, What};
use crate::{
    Accept, CloseReason, Deferred, Drain, Error, GroupOptions, GroupSet, Manner, Refusal,
    SendError, TransactionError,
};

/// A directory that is gone at the end of the test.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xtcp-local-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("server.sock")
    }

    pub(super) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    pub(super) fn options(&self) -> GroupOptions {
        GroupOptions::unix("local", self.socket())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What comes next, which must come.
fn next(inbox: &mut Inbox) -> Vec<Seen> {
    assert!(inbox.wait(Some(Duration::from_secs(20))).expect("a sound endpoint"), "nothing comes");
    seen(inbox)
}

/// Receives until something is so.
pub(super) fn until(inbox: &mut Inbox, mut is_so: impl FnMut(Event<'_>) -> bool) {
    loop {
        assert!(inbox.wait(Some(Duration::from_secs(20))).expect("a sound endpoint"), "not so");
        let mut batch = inbox.receive().expect("a sound endpoint");
        while let Some(event) = batch.next_event() {
            if is_so(event) {
                return;
            }
        }
    }
}

/// The next client is let in.
pub(super) fn accepted(inbox: &mut Inbox) -> Connection {
    let mut accepted = None;
    until(inbox, |event| match event {
        Event::Acceptable(client) => {
            accepted = Some(client.accept().expect("room for a command"));
            false
        }
        Event::Opened(connection) => Some(connection) == accepted,
        _ => false,
    });
    accepted.expect("it was accepted")
}

fn read(client: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

#[test]
fn a_local_client_is_served_as_any_other() {
    let place = Place::new("exchange");
    let (application, mut inbox, mut fake) = attached();
    let group = application.open_group(&place.options()).unwrap();
    assert_eq!(application.open_group(&place.options()).unwrap(), group, "it is open");
    let mut client = place.connect();
    let connection = accepted(&mut inbox);
    assert_eq!(connection.group(), group);
    let peer = application.local_peer(connection).unwrap();
    assert_eq!(u32::try_from(peer.process).unwrap(), std::process::id());
    assert!(matches!(
        application.describe(connection),
        Err(Error::Refused { refusal: Refusal::Misplaced, .. })
    ));

    client.write_all(b"one\ntw").unwrap();
    assert_eq!(next(&mut inbox), [Seen::Request(connection, 0, b"one\ntw".to_vec())]);
    client.write_all(b"o\n").unwrap();
    until(&mut inbox, |event| {
        let Event::Request(mut request) = event else { panic!("{event:?}") };
        assert_eq!(&*request.contiguous(), b"one\ntwo\n");
        request.answer(4, b"1\n").unwrap();
        true
    });
    application.flush();
    assert_eq!(read(&mut client, 2), b"1\n");
    // What was left is given again with what came since, and the other workers go on.
    client.write_all(b"end").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let tcp = super::connection(0, 1);
    fake.data(tcp, 0, b"over TCP");
    let mut told = Vec::new();
    until(&mut inbox, |event| {
        if let Event::Request(request) = &event {
            told.push(seen_request(request));
        }
        matches!(event, Event::Finished(of) if of == connection)
    });
    assert!(told.contains(&Seen::Request(tcp, 0, b"over TCP".to_vec())));
    assert_eq!(told.last(), Some(&Seen::Request(connection, 4, b"two\nend".to_vec())));
    application.send(connection, b"bye").unwrap();
    application.close(connection).unwrap();
    let closed = Event::Closed { connection, reason: CloseReason::Closed };
    assert_eq!(next(&mut inbox), [Seen::Other(format!("{closed:?}"))]);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    assert_eq!(application.send(connection, b"x"), Err(SendError::Closed));
    application.close_group(group).unwrap();
    assert!(!place.socket().exists());
}

#[test]
fn one_file_wakes_for_workers_and_local_clients() {
    let place = Place::new("file");
    let (application, mut inbox, mut fake) = attached();
    let sleep = |inbox: &Inbox| poll(&mut [PollFd::new(inbox, PollFlags::IN)], None).unwrap();
    let file = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&inbox));
    application.open_group(&place.options()).unwrap();
    assert!(inbox.arm().unwrap());
    let mut client = place.connect();
    assert_eq!(sleep(&inbox), 1);
    let connection = accepted(&mut inbox);
    assert!(inbox.arm().unwrap());
    client.write_all(b"x").unwrap();
    assert_eq!(sleep(&inbox), 1);
    assert_eq!(seen(&mut inbox), [Seen::Request(connection, 0, b"x".to_vec())]);
    assert!(inbox.arm().unwrap());
    fake.data(super::connection(1, 1), 0, b"y");
    assert_eq!(sleep(&inbox), 1);
    assert_eq!(seen(&mut inbox).len(), 1);
    assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&inbox)), file);
}

#[test]
fn a_dead_server_s_file_is_replaced_and_nobody_else_s() {
    let place = Place::new("stale");
    let (application, _inbox, _fake) = attached();
    let refused = |path: &Path| match application.open_group(&GroupOptions::unix("local", path)) {
        Err(Error::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    };
    let living = UnixListener::bind(place.socket()).unwrap();
    assert_eq!(refused(&place.socket()), Refusal::InUse);
    // Dead: the kernel closes the socket, and nobody removes the file.
    drop(living);
    let group = application.open_group(&place.options()).unwrap();
    drop(place.connect());
    assert_eq!(application.local_path(group), Some(place.socket()));

    let file = place.0.join("file");
    std::fs::write(&file, "precious").unwrap();
    assert_eq!(refused(&file), Refusal::InUse);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert_eq!(refused(&place.0.join("x".repeat(108))), Refusal::Invalid);
    let nowhere = GroupOptions::unix("local", place.0.join("no/such/place"));
    assert!(matches!(application.open_group(&nowhere), Err(Error::System { .. })));
    let nameless = GroupOptions::unix("", place.0.join("other"));
    assert!(matches!(
        application.open_group(&nameless),
        Err(Error::Refused { refusal: Refusal::Invalid, .. })
    ));
    let other = GroupOptions { nagle: true, ..place.options() };
    assert!(matches!(
        application.open_group(&other),
        Err(Error::Refused { refusal: Refusal::InUse, .. })
    ));
}

#[test]
fn a_file_that_another_has_put_there_since_is_left_alone() {
    let place = Place::new("replaced");
    let (application, _inbox, _fake) = attached();
    let group = application.open_group(&place.options()).unwrap();
    std::fs::remove_file(place.socket()).unwrap();
    let _other = UnixListener::bind(place.socket()).unwrap();
    application.close_group(group).unwrap();
    assert!(place.socket().exists());
}

#[test]
fn the_path_is_the_instance_s_if_none_is_given() {
    let place = Place::new("home");
    std::fs::create_dir_all(place.0.join("xtcp")).unwrap();
    let attach = Attach { run_dir: place.0.clone(), ..Attach::new("chat") };
    let (application, _inbox, _fake) = attached_with(LAYOUT, &attach);
    let options = GroupOptions { port: 7777, ..GroupOptions::unix("local", "") };
    let group = application.open_group(&options).unwrap();
    let path = place.0.join("xtcp/chat-7777.sock");
    assert_eq!(application.local_path(group), Some(path.clone()));
    drop(application);
    drop(_inbox);
    assert!(!path.exists(), "it goes with its server");
}

#[test]
fn who_is_refused_or_waits_too_long_finds_its_connection_closed() {
    let place = Place::new("refused");
    let (application, mut inbox, _fake) = attached();
    let timeout = Duration::from_millis(1);
    let options = GroupOptions { accept: Accept::ByApplication { timeout }, ..place.options() };
    application.open_group(&options).unwrap();
    let mut late = place.connect();
    until(&mut inbox, |event| matches!(event, Event::Acceptable(_)));
    // Undecided. Its time is over without anything else happening.
    while inbox.sleep_max().is_some() {
        inbox.wait(inbox.sleep_max()).unwrap();
    }
    assert_eq!(late.read(&mut [0]).unwrap(), 0);
    let other = place.0.join("other.sock");
    application.open_group(&GroupOptions::unix("other", &other)).unwrap();
    let mut refused = UnixStream::connect(&other).unwrap();
    until(&mut inbox, |event| match event {
        Event::Acceptable(client) => client.refuse().is_ok(),
        _ => false,
    });
    application.flush();
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_client_learns_by_a_reset_that_nobody_read_what_it_sent() {
    let place = Place::new("unread");
    let (application, mut inbox, _fake) = attached();
    application.open_group(&place.options()).unwrap();
    let mut client = place.connect();
    let connection = accepted(&mut inbox);
    client.write_all(b"unread").unwrap();
    application.abort(connection).unwrap();
    application.flush();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let closed = Event::Closed { connection, reason: CloseReason::Aborted };
    assert_eq!(next(&mut inbox), [Seen::Other(format!("{closed:?}"))]);
}

#[test]
fn a_client_that_is_gone_is_told_when_it_is_sent_to() {
    let place = Place::new("gone");
    let (application, mut inbox, _fake) = attached();
    application.open_group(&GroupOptions { accept: Accept::Automatic, ..place.options() }).unwrap();
    let mut client = place.connect();
    client.write_all(b"last words").unwrap();
    drop(client);
    let mut connection = None;
    let mut deferred: Option<Deferred> = None;
    until(&mut inbox, |event| match event {
        Event::Opened(opened) => {
            connection = Some(opened);
            false
        }
        Event::Request(mut request) => {
            deferred = Some(request.defer(10).unwrap());
            false
        }
        Event::Finished(_) => true,
        other => panic!("{other:?}"),
    });
    let connection = connection.unwrap();
    application.answer(&deferred.unwrap(), b"nobody hears").unwrap();
    let closed = Event::Closed { connection, reason: CloseReason::Reset };
    assert_eq!(next(&mut inbox), [Seen::Other(format!("{closed:?}"))]);
}

#[test]
fn a_client_is_read_no_further_than_its_window() {
    let place = Place::new("window");
    let (application, mut inbox, _fake) = attached();
    application.open_group(&GroupOptions { window_max: 10_000, ..place.options() }).unwrap();
    let client = place.connect();
    let connection = accepted(&mut inbox);
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut writer, wanted) = (client.try_clone().unwrap(), bytes.clone());
    let writing = thread_that(move || writer.write_all(&bytes));
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        until(&mut inbox, |event| {
            let Event::Request(mut request) = event else { panic!("{event:?}") };
            assert_eq!(request.offset(), got.len() as u64);
            assert!(request.len() <= 10_000);
            // Less than a block, so that blocks are given back while others are in use.
            let count = request.len().min(1000);
            got.extend_from_slice(&request.head(count));
            request.acknowledge(count).unwrap();
            request.again();
            true
        });
    }
    assert!(got == wanted);
    writing.join().unwrap().unwrap();
    application.close(connection).unwrap();
}

fn thread_that<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(work)
}

/// One client keeps every buffer; the others wait, and go on when it lets go.
#[test]
fn clients_without_a_buffer_wait_for_one() {
    let place = Place::new("buffers");
    let attach = Attach { local_bytes: 64 << 10, ..Attach::new("test") };
    let (application, mut inbox, _fake) = attached_with(LAYOUT, &attach);
    application.open_group(&GroupOptions { window_max: 1 << 20, ..place.options() }).unwrap();
    let mut greedy = place.connect();
    let first = accepted(&mut inbox);
    let mut modest = place.connect();
    let second = accepted(&mut inbox);
    greedy.write_all(&vec![b'g'; 64 << 10]).unwrap();
    let mut held = 0;
    while held < 64 << 10 {
        until(&mut inbox, |event| match event {
            Event::Request(request) => {
                held = request.len();
                true
            }
            other => panic!("{other:?}"),
        });
    }
    modest.write_all(b"modest").unwrap();
    assert!(!inbox.wait(Some(Duration::from_millis(20))).unwrap(), "there is no buffer for it");
    let deferred = Deferred { connection: first, up_to: 64 << 10 };
    application.answer(&deferred, b"done").unwrap();
    assert_eq!(next(&mut inbox), [Seen::Request(second, 0, b"modest".to_vec())]);
    assert_eq!(read(&mut greedy, 4), b"done");
}

#[test]
fn bytes_for_a_client_that_does_not_read_wait_and_come_in_order() {
    let place = Place::new("slow");
    let (application, mut inbox, _fake) = attached();
    application.open_group(&place.options()).unwrap();
    let mut client = place.connect();
    let connection = accepted(&mut inbox);
    let wanted: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 253) as u8).collect();
    let mut sent = 0;
    let mut refused = false;
    while sent < wanted.len() && !refused {
        let piece = &wanted[sent..wanted.len().min(sent + 1000)];
        match application.send(connection, piece) {
            Ok(()) => sent += piece.len(),
            Err(_) => refused = true,
        }
        inbox.turn().unwrap();
    }
    assert!(refused, "1 MiB and the kernel's buffer are less than 2 MB");
    let wanted = wanted[..sent].to_vec();
    let reading = thread_that(move || read(&mut client, sent));
    until(&mut inbox, |event| matches!(event, Event::Drained(of) if of == connection));
    // The rest is with the local worker, which goes on with each turn.
    while !reading.is_finished() {
        inbox.wait(Some(Duration::from_millis(1))).unwrap();
    }
    assert!(reading.join().unwrap() == wanted);
}

#[test]
fn a_transaction_of_local_clients_is_all_or_nothing() {
    let place = Place::new("together");
    let (application, mut inbox, _fake) = attached();
    application.open_group(&place.options()).unwrap();
    let mut from = place.connect();
    let _ = accepted(&mut inbox);
    let mut to = place.connect();
    let second = accepted(&mut inbox);
    from.write_all(b"message").unwrap();
    let tcp = connection(0, 9);
    until(&mut inbox, |event| {
        let Event::Request(mut request) = event else { panic!("{event:?}") };
        let mut mixed = application.transaction();
        mixed.send(tcp, b"x");
        mixed.send(second, b"x");
        assert_eq!(mixed.commit(), Err(TransactionError::SeveralWorkers));
        let mut transaction = application.transaction();
        transaction.send(second, &request.contiguous());
        transaction.acknowledge(&mut request, 7).unwrap();
        transaction.commit().unwrap();
        assert!(request.is_empty());
        true
    });
    assert_eq!(read(&mut to, 7), b"message");
    drop(to);
    from.write_all(b"second").unwrap();
    until(&mut inbox, |event| match event {
        Event::Request(mut request) => {
            // Its client is gone, which the kernel says when it is written to.
            application.abort(second).unwrap();
            let mut transaction = application.transaction();
            transaction.send(second, b"x");
            transaction.acknowledge(&mut request, 6).unwrap();
            assert!(transaction.commit().is_err());
            assert_eq!(request.len(), 6);
            true
        }
        _ => false,
    });
}

/// The kernel is asked every so many turns, and never before there is a local group.
#[test]
fn a_busy_server_asks_the_kernel_seldom() {
    let place = Place::new("busy");
    let (application, mut inbox, mut fake) = attached();
    let turn = |inbox: &mut Inbox, fake: &mut Fake, index: u64| {
        fake.data(connection(0, 1), index, b"x");
        assert_eq!(seen(inbox).len(), 1);
        fake.workers[0].take();
    };
    for index in 0..100 {
        turn(&mut inbox, &mut fake, index);
    }
    assert_eq!(application.shared().endpoint.borrow().looks(), 0);
    application.open_group(&place.options()).unwrap();
    for index in 100..420 {
        turn(&mut inbox, &mut fake, index);
    }
    assert_eq!(application.shared().endpoint.borrow().looks(), 10);
    let _client = place.connect();
    let told = (420..460).find(|index| {
        fake.data(connection(0, 1), *index, b"x");
        seen(&mut inbox).iter().any(|event| matches!(event, Seen::Acceptable(_)))
    });
    assert!(told.is_some_and(|turns| turns < 420 + 32));
}

#[test]
fn a_local_group_is_drained() {
    let place = Place::new("drain");
    let (application, mut inbox, _fake) = attached();
    let group = application.open_group(&place.options()).unwrap();
    let [_first, (mut asking, asked), _third] =
        [(); 3].map(|()| (place.connect(), accepted(&mut inbox)));
    asking.write_all(b"question").unwrap();
    assert_eq!(next(&mut inbox).len(), 1);
    application.drain_group(group, &Drain { per_second: 0, manner: Manner::WhenIdle }).unwrap();
    assert!(UnixStream::connect(place.socket()).is_err());
    let mut ended = 0;
    let mut answered = false;
    until(&mut inbox, |event| {
        match event {
            Event::Closed { reason: CloseReason::Closed, .. } => ended += 1,
            Event::GroupDrained(of) => return of == group,
            other => panic!("{other:?}"),
        }
        if ended == 2 && !answered {
            // The one with something under way is ended when that is done.
            let deferred = Deferred { connection: asked, up_to: 8 };
            application.answer(&deferred, b"answer").unwrap();
            answered = true;
        }
        false
    });
    assert_eq!(ended, 3);
    let mut rest = String::new();
    asking.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "answer");
    application.close_group(group).unwrap();
}

#[test]
fn select_and_accept_find_local_clients_at_once() {
    let place = Place::new("select");
    let (application, mut inbox, _fake) = attached();
    let group = application.open_group(&place.options()).unwrap();
    let set = GroupSet::from([group]);
    let now = Some(Duration::ZERO);
    assert!(inbox.select(&set, &set, now).unwrap().is_empty());
    assert_eq!(inbox.accept(group).unwrap(), None);
    let mut client = place.connect();
    assert_eq!(inbox.select(&set, &set, now).unwrap().acceptable, set);
    let connection = inbox.accept(group).unwrap().unwrap();
    client.write_all(b"x").unwrap();
    let mut batch = inbox.receive_from(group).unwrap();
    assert!(matches!(batch.next_event(), Some(Event::Opened(of)) if of == connection));
    let mut batch = inbox.receive_from(group).unwrap();
    match batch.next_event() {
        Some(Event::Request(request)) => assert_eq!(request.connection(), connection),
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_work_for_local_clients() {
    let place = Place::new("numbers");
    let (application, inbox, _fake) = attached();
    let mut pools = Pools::new();
    pools.add(FIRST_POOL, application, inbox);
    let gd = pools.open_group(FIRST_POOL, &place.options()).unwrap();
    let mut client = place.connect();
    let cd = pools.accept(gd).unwrap();
    client.write_all(b"question").unwrap();
    let mut set = NumberSet::default();
    set.insert(gd);
    assert_eq!(pools.select(Some(&mut set), None, None).unwrap(), 1);
    let mut bytes = Vec::new();
    let received = pools.receive(gd, 100, |piece| bytes.extend_from_slice(piece)).unwrap();
    assert_eq!((received.cd, received.what, &*bytes), (cd, What::Bytes(8), &b"question"[..]));
    pools.send(gd, cd, 8, b"answer", NoRoom::AcknowledgeStill).unwrap();
    pools.flush(gd).unwrap();
    assert_eq!(read(&mut client, 6), b"answer");
    drop(client);
    assert_eq!(pools.select(Some(&mut set), None, Some(Duration::from_secs(20))).unwrap(), 1);
    assert_eq!(pools.receive(gd, 100, |_| ()).unwrap().what, What::End);
    pools.close(gd, cd).unwrap();
    pools.close_group(gd).unwrap();
    assert!(!place.socket().exists());
}
