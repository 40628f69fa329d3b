//! Applications that are gone and followed by others, and what they do all at once.

use xtcp_stack::{Gd, Part, Payload, Usage};

use super::choices::Choices;
use super::{QUEUE, World};

/// So many bytes to send.
struct Text(usize);

impl Payload for Text {
    fn len(&self) -> usize {
        self.0
    }

    fn copy_to(&self, _at: usize, into: &mut [u8]) {
        into.fill(0x5a);
    }
}

impl World<'_, '_> {
    /// The application is gone, at any moment; its successor comes at once or after a while, and is
    /// told of every connection anew, its bytes from where the last one committed.
    pub(super) fn succeed(&mut self, choices: &mut Choices<'_>) {
        self.deliver();
        self.stack.orphan_queue(QUEUE, self.now);
        self.left
            .extend(self.known.drain().map(|(connection, known)| (connection, known.committed)));
        if choices.below(2) == 0 {
            self.tick(choices);
        }
        self.stack.tell_again(QUEUE);
        assert!(self.stack.is_telling_again(QUEUE));
    }

    /// Commits and sends on several connections, perhaps on one twice, one of them perhaps wrong: all
    /// or none.
    pub(super) fn transact(&mut self, choices: &mut Choices<'_>) {
        let known = self.sorted();
        if known.is_empty() {
            return;
        }
        let parts: Vec<Part<Text>> = (0..1 + choices.below(4))
            .map(|_| {
                let connection = known[choices.below(known.len())];
                let it = self.known[&connection];
                let open = usize::try_from(it.given - it.committed).unwrap_or(0);
                let commits = choices.below(3) != 0;
                let offset = it.committed + choices.below(open + 1) as u64;
                // Now and then beyond what was given, or by a handle of nothing.
                let beyond = u64::from(choices.below(16) == 0) * (1 + open as u64);
                let group = if choices.below(16) == 0 { Gd::from_bits(u32::MAX) } else { it.group };
                let payload = Text(choices.below(2) * choices.below(3000));
                Part { group, connection, commit: commits.then_some(offset + beyond), payload }
            })
            .collect();
        let before = self.stack.usage();
        if let Err((place, misuse)) = self.stack.transact(&parts, self.now) {
            assert!(place < parts.len(), "{misuse}");
            // Who was looked at may find that its window could open, and stays to say so.
            let after = Usage { active: before.active, ..self.stack.usage() };
            assert_eq!(after, before, "what is refused changes nothing");
            return;
        }
        for part in parts {
            let known = self.known.get_mut(&part.connection).expect("one of them");
            // Of one that is over, what it never gave may be committed, too.
            known.committed = known.committed.max(part.commit.unwrap_or(0)).min(known.given);
        }
    }
}
