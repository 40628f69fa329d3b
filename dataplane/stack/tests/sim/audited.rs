//! A stack whose books and rules are held against each other between any two steps.

use std::ops::{Deref, DerefMut};

use xtcp_stack::Stack;

/// A stack. Whatever can change it (a frame, a verb, an event taken, a deadline, a poll for frames) goes
/// through `deref_mut`, which first audits what the step before has left; the end audits the last.
pub(crate) struct Audited<'m> {
    stack: Stack<'m>,
    at_every_step: bool,
}

impl<'m> Audited<'m> {
    /// A stack that is audited where its owner says so.
    pub(crate) const fn when_asked(stack: Stack<'m>) -> Self {
        Self { stack, at_every_step: false }
    }

    /// From now on it is audited between any two steps.
    pub(crate) const fn audit_every_step(&mut self) {
        self.at_every_step = true;
    }

    fn audit_if_wanted(&self) {
        if self.at_every_step {
            self.stack
                .audit()
                .expect("the step before has left the books right and kept every rule");
        }
    }
}

impl<'m> Deref for Audited<'m> {
    type Target = Stack<'m>;

    fn deref(&self) -> &Stack<'m> {
        &self.stack
    }
}

impl<'m> DerefMut for Audited<'m> {
    fn deref_mut(&mut self) -> &mut Stack<'m> {
        self.audit_if_wanted();
        &mut self.stack
    }
}

impl Drop for Audited<'_> {
    fn drop(&mut self) {
        // A test that fails has said why.
        if !std::thread::panicking() {
            self.audit_if_wanted();
        }
    }
}

impl std::fmt::Debug for Audited<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stack.fmt(f)
    }
}
