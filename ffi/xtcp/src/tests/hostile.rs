//! What cannot be is an error with a sentence, never undefined and never silent.

use xtcp_ring::ApplicationChannel;

use super::*;
use crate::{Error, SendError};

/// Tells one notice and expects it to break the endpoint, with these words.
fn breaks(notice: Notice, words: &str) {
    let (application, mut inbox, mut fake) = attached();
    fake.workers[0].tell(notice);
    let found = drain(&mut inbox);
    let Err(Error::Corrupt { worker: 0, what }) = found else { panic!("{notice:?}: {found:?}") };
    assert!(what.contains(words), "{what:?} has no {words:?}");
    assert!(matches!(inbox.receive(), Err(Error::Corrupt { .. })), "it stays so");
    assert_eq!(application.send(connection(0, 1), b"x"), Err(SendError::Broken));
}

/// Two turns, because some lies show only when an event is made.
fn drain(inbox: &mut Inbox) -> Result<(), Error> {
    for _ in 0..2 {
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            drop(event);
        }
    }
    Ok(())
}

#[test]
fn impossible_notices() {
    let end = PART * 2;
    let good =
        Notice { kind: kind::DATA, gd: GD, cd: connection(0, 1).cd, len: 10, ..Notice::default() };
    breaks(Notice { at: end - 9, ..good }, "receive memory");
    breaks(Notice { at: u64::MAX, ..good }, "receive memory");
    breaks(Notice { len: 0, ..good }, "0 bytes at");
    breaks(Notice { offset: u64::MAX - 5, ..good }, "stream offset");
    breaks(Notice { gd: 77, ..good }, "unknown group");
    breaks(Notice { cd: connection(1, 1).cd, ..good }, "worker 1's connection");
    breaks(Notice { cd: connection(200, 1).cd, ..good }, "worker 200's connection");
    breaks(Notice { kind: 0, ..good }, "kind 0");
    breaks(Notice { kind: 99, ..good }, "kind 99");
    breaks(Notice { kind: kind::CLOSED, reason: 9, ..good }, "reason 9");
    let (_application, mut inbox, mut fake) = attached();
    fake.workers[0].tell(Notice { at: end - 10, ..good });
    assert!(drain(&mut inbox).is_ok(), "the last byte is a byte");
}

#[test]
fn a_gap_in_a_stream() {
    let (_application, mut inbox, mut fake) = attached();
    fake.data(connection(0, 1), 0, b"abc");
    assert!(drain(&mut inbox).is_ok());
    fake.data(connection(0, 1), 4, b"e");
    let Err(Error::Corrupt { what, .. }) = drain(&mut inbox) else { panic!("a gap") };
    assert!(what.contains("offset 4 where 3"), "{what}");
}

#[test]
fn a_worker_that_claims_to_have_read_what_was_not_written() {
    let (_application, mut inbox, mut fake) = attached();
    // Somebody else writes into the application's ring, and the worker believes it.
    let mut other = ApplicationChannel::open(&fake.mapping, &LAYOUT, 0).unwrap();
    for _ in 0..10 {
        other.submissions.push(&Submission::default()).unwrap();
    }
    other.submissions.publish();
    assert_eq!(fake.workers[0].take().len(), 10);
    let found = inbox.receive().map(drop);
    assert!(matches!(found, Err(Error::Corrupt { worker: 0, .. })), "{found:?}");
}

#[test]
fn memory_that_does_not_fit() {
    let attach = Attach::new("test");
    let control = || Control::new(PathBuf::from("/nonexistent"), Duration::from_secs(1));
    let (_fake, handover) = appliance(LAYOUT);
    let layout = EndpointLayout { arena_bytes: 1 << 20, ..LAYOUT };
    let refused = Application::assemble(Handover { layout, ..handover }, &attach, control());
    assert!(matches!(refused, Err(Error::Handover { .. })));
    let (_fake, handover) = appliance(LAYOUT);
    let layout = EndpointLayout { workers: 0, ..LAYOUT };
    let refused = Application::assemble(Handover { layout, ..handover }, &attach, control());
    assert!(matches!(refused, Err(Error::Handover { .. })));
    let (_fake, handover) = appliance(LAYOUT);
    let refused =
        Application::assemble(Handover { receive_bytes: 1 << 30, ..handover }, &attach, control());
    assert!(matches!(refused, Err(Error::Handover { .. })));
    let (_fake, handover) = appliance(LAYOUT);
    let file = handover.lifeline.try_clone().unwrap();
    let refused = Application::assemble(Handover { receive: file, ..handover }, &attach, control());
    assert!(matches!(refused, Err(Error::System { .. })));
}
