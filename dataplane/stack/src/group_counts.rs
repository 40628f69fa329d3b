//! What is counted of each connection group, for its operators.

#![expect(missing_debug_implementations, reason = "zerocopy's own types for the fields have none")]

use core::ops::AddAssign;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Defines the record, with a name and a sentence for each figure.
macro_rules! counts {
    ($($field:ident, $name:literal, $what:literal;)*) => {
        /// What happened in a group since it was opened. A plain record.
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
        )]
        #[repr(C)]
        pub struct GroupCounts {
            $(#[doc = $what] pub $field: u64,)*
        }

        impl GroupCounts {
            /// Name, meaning and value of every figure.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
                [$(($name, $what, self.$field),)*].into_iter()
            }
        }

        /// For the figures of all workers together.
        impl AddAssign for GroupCounts {
            fn add_assign(&mut self, other: Self) {
                $(self.$field = self.$field.wrapping_add(other.$field);)*
            }
        }
    };
}

counts! {
    bytes_in, "bytes-in", "Stream bytes received in order.";
    bytes_out, "bytes-out", "Stream bytes queued for sending.";
    requests, "requests", "Pieces of text given to the application.";
    acks_on_answers, "acks-on-answers", "Acknowledgements of text that rode on text.";
    acks_bare, "acks-bare", "Acknowledgements that left without text.";
    retransmitted, "retransmitted", "Segments sent again.";
    accepted, "accepted", "Handshakes completed.";
    opened, "opened", "Handshakes begun.";
    refused, "refused", "Handshakes that came to nothing but by a RST of the peer's.";
    unaccepted, "unaccepted", "Of those: not accepted by the application in time.";
    closed_by_peer, "closed-by-peer", "Connections closed in order, by the peer first.";
    closed_by_us, "closed-by-us", "Connections closed in order, by the application first.";
    closed_idle, "closed-idle", "Connections closed in order, for being idle too long.";
    reset, "reset", "Connections the peer reset.";
    aborted, "aborted", "Connections we reset.";
    timed_out, "timed-out", "Connections whose peer stopped answering.";
    keep_alive_probes, "keep-alive-probes", "Questions to idle peers whether they are there.";
    stalled, "stalled", "Segments repeated so often that the way to the peer is doubted (R1).";
    drained, "drained", "Connections ended by draining.";
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn figures_of_workers_add_up_row_by_row() {
        let mut sum = GroupCounts { bytes_in: 1, drained: u64::MAX, ..GroupCounts::default() };
        sum += GroupCounts { bytes_in: 2, drained: 3, ..GroupCounts::default() };
        let shown = |name| sum.rows().find(|row| row.0 == name).map(|row| row.2);
        assert_eq!((shown("bytes-in"), shown("drained")), (Some(3), Some(2)));
        assert_eq!(sum.rows().count() * 8, size_of::<GroupCounts>());
        for (place, (name, what, _)) in sum.rows().enumerate() {
            assert_eq!(sum.rows().position(|(other, ..)| other == name), Some(place));
            assert!(what.ends_with('.'));
        }
    }
}
