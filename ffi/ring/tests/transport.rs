//! Messages between processes, honest and hostile.
#![cfg(not(loom))]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use xtcp_ring::transport::{LAST, MESSAGE_MAX, MORE, Partial, RECORD_MAX};
use xtcp_ring::{Listener, Reply, Request, Seqpacket, TransportError};

fn pair() -> (Seqpacket, Seqpacket) {
    let (one, other) = Seqpacket::pair().expect("two ends");
    for end in [&one, &other] {
        end.set_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    }
    (one, other)
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("xtcp-ring-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).expect("a directory");
    path
}

fn raw(record: &[u8]) -> Vec<u8> {
    record.to_vec()
}

#[test]
fn a_message_and_its_files() {
    let (one, other) = pair();
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let sent = Request::Attach { version: 1, application: "chat".into(), receive_bytes: 1 << 20 };
    one.send(&sent, &[reader.as_fd(), writer.as_fd()]).expect("sent");
    let (received, files): (Request, Vec<OwnedFd>) = other.recv().expect("received");
    assert_eq!(received, sent);
    let [far_reader, far_writer]: [OwnedFd; 2] = files.try_into().expect("two files");
    drop((reader, writer));
    fs::File::from(far_writer).write_all(b"hello").expect("written");
    let mut text = String::new();
    fs::File::from(far_reader).read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello");
}

#[test]
fn a_long_message_is_cut_and_joined() {
    let (one, other) = pair();
    let text = "0123456789".repeat(200_000);
    let sent = Reply::Refused { refusal: xtcp_ring::message::Refusal::Invalid, reason: text };
    let copy = sent.clone();
    let (pipe, _) = rustix::pipe::pipe().expect("a pipe");
    let sender = thread::spawn(move || one.send(&copy, &[pipe.as_fd()]));
    let (received, files): (Reply, _) = other.recv().expect("received");
    sender.join().expect("the sender ends").expect("sent");
    assert_eq!(received, sent);
    assert_eq!(files.len(), 1);
}

/// A sender who never comes to an end holds nobody: each call takes one record.
#[test]
fn an_endless_message_is_taken_record_by_record() {
    let (one, other) = pair();
    let mut partial = Partial::new(1000, 0);
    for _ in 0..3 {
        one.try_send_record(b"\x01 ", &[]).expect("sent");
    }
    one.try_send_record(b"\0\"Status\"", &[]).expect("sent");
    for _ in 0..3 {
        assert!(other.try_recv::<Request>(&mut partial).expect("not complete").is_none());
    }
    let received = other.try_recv::<Request>(&mut partial).expect("understood");
    assert_eq!(received.map(|(message, _)| message), Some(Request::Status));
}

#[test]
fn a_message_beyond_the_limit_is_not_sent() {
    let (one, _other) = pair();
    let reply = Reply::Refused {
        refusal: xtcp_ring::message::Refusal::Invalid,
        reason: "x".repeat(MESSAGE_MAX),
    };
    assert!(matches!(one.send(&reply, &[]), Err(TransportError::TooLong(MESSAGE_MAX))));
    one.send(&Reply::Done, &[]).expect("the connection goes on");
}

#[test]
fn waiting_ends() {
    let (one, other) = pair();
    one.set_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    assert!(matches!(one.recv::<Reply>(), Err(TransportError::TimedOut)));
    let record = vec![LAST; RECORD_MAX];
    let full = loop {
        if let Err(error) = one.try_send_record(&record, &[]) {
            break error;
        }
    };
    assert!(matches!(full, TransportError::TimedOut), "{full}");
    drop(other);
    assert!(matches!(one.send(&Reply::Done, &[]), Err(TransportError::Closed)));
}

#[test]
fn a_closed_connection_is_closed() {
    let (one, other) = pair();
    drop(one);
    assert!(matches!(other.recv::<Reply>(), Err(TransportError::Closed)));
    let mut partial = Partial::new(1000, 0);
    assert!(matches!(other.try_recv::<Reply>(&mut partial), Err(TransportError::Closed)));
}

#[test]
fn nonsense_is_refused_and_the_next_message_understood() {
    let (one, other) = pair();
    let mut partial = Partial::new(1000, 0);
    let nonsense: [&[u8]; 7] = [
        b"\x01",
        b"\0",
        b"\0{",
        b"\0\"NoSuchWord\"",
        b"\0{\"Attach\":{\"version\":-1}}",
        b"\0\xff\xfe",
        b"\x07\"Status\"",
    ];
    for record in nonsense {
        one.try_send_record(record, &[]).expect("sent");
        let answer = other.try_recv::<Request>(&mut partial);
        assert!(matches!(answer, Err(TransportError::Malformed(_))), "{record:?}: {answer:?}");
    }
    one.send(&Request::Status, &[]).expect("sent");
    let received = other.try_recv::<Request>(&mut partial).expect("understood");
    assert_eq!(received.map(|(message, _)| message), Some(Request::Status));
    assert!(other.try_recv::<Request>(&mut partial).expect("nothing there").is_none());
}

/// Deep nesting would overflow the stack of a careless parser.
#[test]
fn deep_nesting_is_refused() {
    let (one, other) = pair();
    let mut record = raw(b"\0{\"Shown\":{\"rows\":");
    record.extend(std::iter::repeat_n(b'[', 60_000));
    one.try_send_record(&record, &[]).expect("sent");
    assert!(matches!(other.recv::<Reply>(), Err(TransportError::Malformed(_))));
}

#[test]
fn more_than_the_receiver_takes_is_refused() {
    let (one, other) = pair();
    let mut partial = Partial::new(1000, 0);
    let mut record = raw(&[MORE]);
    record.extend([b' '; 600]);
    one.try_send_record(&record, &[]).expect("sent");
    assert!(other.try_recv::<Request>(&mut partial).expect("not complete").is_none());
    one.try_send_record(&record, &[]).expect("sent");
    let answer = other.try_recv::<Request>(&mut partial);
    assert!(matches!(answer, Err(TransportError::TooLong(1000))), "{answer:?}");

    let (one, other) = pair();
    one.try_send_record(&vec![b' '; RECORD_MAX + 1], &[]).expect("sent");
    assert!(matches!(other.recv::<Request>(), Err(TransportError::TooLong(RECORD_MAX))));
}

/// Files nobody asked for are not kept open.
#[test]
fn unwanted_files_are_thrown_away() {
    let (one, other) = pair();
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let mut partial = Partial::new(1000, 0);
    one.send(&Request::Status, &[writer.as_fd(); 40]).expect("sent");
    drop(writer);
    let received = other.try_recv::<Request>(&mut partial).expect("understood").expect("complete");
    assert!(received.1.is_empty());
    // The only writing ends were in the message: the pipe is at its end if all are closed.
    let mut nothing = [0];
    assert_eq!(rustix::io::read(&reader, &mut nothing), Ok(0));
}

#[test]
fn a_socket_of_a_dead_owner_is_replaced() {
    let directory = scratch("stale");
    let path = directory.join("a.sock");
    let dead = Listener::bind(&path, 0o600).expect("a socket");
    // As kill -9 leaves it: the file is there and nobody listens.
    let fd = dead.fd().try_clone_to_owned().expect("a copy");
    std::mem::forget(dead);
    drop(fd);
    let listener = Listener::bind(&path, 0o660).expect("replaced");
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(listener.accept().expect("nobody yet").is_none());
    let client = Seqpacket::connect(&path, Some(Duration::from_secs(60))).expect("connected");
    let server = listener.accept().expect("accepted").expect("somebody");
    assert_eq!(server.peer_pid().expect("credentials"), Some(std::process::id()));
    client.send(&Request::Detach, &[]).expect("sent");
    assert_eq!(server.recv::<Request>().expect("received").0, Request::Detach);
    drop(listener);
    assert!(!path.exists(), "the socket is removed with its listener");
    fs::remove_dir(directory).expect("empty");
}

#[test]
fn a_path_too_long_says_so() {
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
    let error = Listener::bind(&path, 0o600).expect_err("too long");
    assert!(error.to_string().ends_with("is too long for a socket's path (107 bytes)"), "{error}");
}
