//! Attaching over a socket, and an `xtcpd` that goes away and comes back.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use xtcp_ring::message::{self, ConnectionInfo, GroupRecord, Reply, Request, VERSION};
use xtcp_ring::{Listener, Seqpacket};

use super::*;
use crate::{Drain, Error, GroupOptions, Manner, Refusal, ResumedGroup};

/// A directory with an instance's socket in it, gone at the end of the test.
struct RunDir(PathBuf);

impl RunDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xtcp-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("xtcp")).expect("a directory");
        Self(path)
    }

    fn attach(&self) -> Attach {
        let timeout = Duration::from_secs(20);
        Attach { run_dir: self.0.clone(), timeout, ..Attach::new("test") }
    }

    fn listen(&self) -> Listener {
        Listener::bind(&self.0.join("xtcp/xtcpd.sock"), 0o600).expect("a socket")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn accept(listener: &Listener) -> Seqpacket {
    wait_readable(listener.fd());
    let socket = listener.accept().expect("a socket").expect("somebody connects");
    socket.set_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket
}

fn wait_readable(fd: BorrowedFd<'_>) {
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], None).expect("a poll");
}

/// Answers one question after another, each by what the test says.
fn answer(socket: &Seqpacket, wanted: impl Fn(&Request) -> bool, reply: &Reply) {
    let (request, _): (Request, _) = socket.recv().expect("a question");
    assert!(wanted(&request), "{request:?}");
    socket.send(reply, &[]).expect("an answer");
}

fn hand_over(socket: &Seqpacket) -> Fake {
    hand_over_with(socket, None)
}

fn hand_over_with(socket: &Seqpacket, resumed: Option<Vec<GroupRecord>>) -> Fake {
    let (request, _): (Request, _) = socket.recv().expect("a question");
    let Request::Attach { version: VERSION, application, receive_bytes: 0 } = request else {
        panic!("{request:?}");
    };
    assert_eq!(application, "test");
    let (fake, handover) = appliance(LAYOUT);
    let Handover { layout, receive_bytes, endpoint, receive, bell, lifeline, .. } = handover;
    let reply = Reply::Attached { endpoint: 3, pool: 4, key: 5, layout, receive_bytes, resumed };
    let files = [endpoint.as_fd(), receive.as_fd(), bell.as_fd(), lifeline.as_fd()];
    socket.send(&reply, &files).expect("an answer");
    fake
}

fn play<T: Send + 'static>(
    dir: &RunDir,
    xtcpd: impl FnOnce(Listener) -> T + Send + 'static,
) -> JoinHandle<T> {
    let listener = dir.listen();
    thread::spawn(move || xtcpd(listener))
}

#[test]
fn every_word_with_xtcpd() {
    let dir = RunDir::new("words");
    let info = ConnectionInfo {
        cd: connection(0, 1).cd,
        gd: GD,
        remote: "[fd77::1]:40000".parse().unwrap(),
        local: "[fd77::2]:7".parse().unwrap(),
        state: "ESTABLISHED".to_owned(),
    };
    let described = info.clone();
    let xtcpd = play(&dir, move |listener| {
        let socket = accept(&listener);
        let fake = hand_over(&socket);
        let wanted = GroupOptions::new("chat", 7777).to_message();
        answer(&socket, |r| *r == Request::OpenGroup(wanted.clone()), &Reply::Group { gd: GD });
        let cd = described.cd;
        answer(&socket, |r| *r == Request::Describe { cd }, &Reply::Described(described));
        let reason = "no".to_owned();
        answer(
            &socket,
            |r| *r == Request::Describe { cd },
            &Reply::Refused { refusal: Refusal::NotThere, reason },
        );
        let drain = message::Drain { per_second: 100, manner: message::Manner::WhenIdle };
        answer(&socket, |r| *r == Request::DrainGroup { gd: GD, drain }, &Reply::Done);
        answer(&socket, |r| *r == Request::CloseGroup { gd: GD }, &Reply::Done);
        answer(&socket, |r| *r == Request::Detach, &Reply::Done);
        fake
    });
    let (application, inbox) = Application::attach(&dir.attach()).unwrap();
    let group = application.open_group(&GroupOptions::new("chat", 7777)).unwrap();
    let told = application.describe(connection(0, 1)).unwrap();
    assert_eq!((told.remote, told.local, told.state), (info.remote, info.local, info.state));
    let refused = application.describe(connection(0, 1));
    assert!(
        matches!(refused, Err(Error::Refused { refusal: Refusal::NotThere, reason }) if reason == "no")
    );
    let drain = Drain { per_second: 100, manner: Manner::WhenIdle };
    application.drain_group(group, &drain).unwrap();
    application.close_group(group).unwrap();
    assert!(matches!(application.close_group(group), Err(Error::NoSuchGroup)));
    assert!(matches!(application.drain_group(group, &drain), Err(Error::NoSuchGroup)));
    application.detach(inbox).unwrap();
    let fake = xtcpd.join().unwrap();
    wait_hung_up(fake.lifeline.as_ref().unwrap().as_fd());
}

/// The dataplane learns of an application's end by its lifeline.
fn wait_hung_up(fd: BorrowedFd<'_>) {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    poll(&mut fds, None).expect("a poll");
    assert!(fds[0].revents().contains(PollFlags::HUP));
}

#[test]
fn a_restarted_xtcpd_takes_the_application_back() {
    let dir = RunDir::new("restart");
    let (gone, is_gone) = mpsc::channel();
    let xtcpd = play(&dir, move |listener| {
        let first = accept(&listener);
        let fake = hand_over(&first);
        drop(first);
        gone.send(()).expect("the test waits");
        let second = accept(&listener);
        let resume = Request::Resume { version: VERSION, endpoint: 3, key: 5 };
        answer(&second, |request| *request == resume, &Reply::Done);
        answer(&second, |r| matches!(r, Request::OpenGroup(_)), &Reply::Group { gd: GD });
        fake
    });
    let (application, mut inbox) = Application::attach(&dir.attach()).unwrap();
    is_gone.recv().unwrap();
    let group = application.open_group(&GroupOptions::new("chat", 7777)).unwrap();
    let mut fake = xtcpd.join().unwrap();
    fake.data(connection(0, 1), 0, b"traffic goes on");
    assert_eq!(seen(&mut inbox).len(), 1);
    assert_eq!(group, Group(GD));
}

#[test]
fn nobody_there_is_a_sentence_with_the_path() {
    let dir = RunDir::new("nobody");
    let error = Application::attach(&dir.attach()).map(drop).unwrap_err().to_string();
    let path = dir.0.join("xtcp/xtcpd.sock");
    assert!(error.contains(path.to_str().unwrap()) && error.contains("start it"), "{error}");
    assert!(Path::new(&path).parent().unwrap().is_dir());
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let dir = RunDir::new("mixed-up");
    let xtcpd = play(&dir, |listener| {
        let socket = accept(&listener);
        answer(&socket, |request| matches!(request, Request::Attach { .. }), &Reply::Done);
        let socket = accept(&listener);
        let reply = Reply::Attached {
            endpoint: 0,
            pool: 0,
            key: 0,
            layout: LAYOUT,
            receive_bytes: 4096,
            resumed: None,
        };
        answer(&socket, |request| matches!(request, Request::Attach { .. }), &reply);
    });
    for words in ["Done", "0 files of 4"] {
        let error = Application::attach(&dir.attach()).map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    xtcpd.join().unwrap();
}

#[test]
fn a_successor_has_its_predecessors_groups_before_it_opens_any() {
    let dir = RunDir::new("successor");
    let options = GroupOptions::new("chat", 7777).to_message();
    let left = GroupRecord { gd: GD, endpoint: 3, options };
    let xtcpd = play(&dir, move |listener| {
        let socket = accept(&listener);
        let mut fake = hand_over_with(&socket, Some(vec![left]));
        fake.workers[0].tell_of(kind::OPENED, connection(0, 1));
        fake.data(connection(0, 1), 40, b"again");
        for worker in 0..2_u8 {
            fake.workers[usize::from(worker)].tell(Notice {
                kind: kind::RESUMED,
                cd: u64::from(worker) << 32,
                ..Notice::default()
            });
        }
        answer(&socket, |r| matches!(r, Request::OpenGroup(_)), &Reply::Group { gd: GD });
        fake
    });
    let (application, mut inbox) = Application::attach(&dir.attach()).unwrap();
    let wanted =
        ResumedGroup { group: Group(GD), name: "chat".to_owned(), port: 7777, priority: 1 };
    assert_eq!(application.resumed(), Some(&[wanted][..]));
    assert_eq!(application.open_group(&GroupOptions::new("chat", 7777)).unwrap(), Group(GD));
    let fake = xtcpd.join().unwrap();
    assert!(inbox.wait(None).unwrap());
    let mut batch = inbox.receive().unwrap();
    match batch.next_event() {
        Some(Event::Opened(opened)) => assert_eq!(opened, connection(0, 1)),
        other => panic!("{other:?}"),
    }
    match batch.next_event() {
        Some(Event::Request(request)) => {
            assert_eq!((request.offset(), &*request.contiguous()), (40, &b"again"[..]));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(batch.next_event(), Some(Event::Resumed)));
    assert!(batch.next_event().is_none());
    drop(fake);
}
