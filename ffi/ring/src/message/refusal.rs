//! What is not done, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Answer, Reply};

/// Why something is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A value that cannot be.
    Invalid,
    /// The name, or what is named, is taken.
    InUse,
    /// There is no such thing, or no more.
    NotThere,
    /// A limit is reached: groups, applications, memory.
    Full,
    /// This user may not.
    NotAllowed,
    /// The two sides were not built alike.
    Version,
    /// The dataplane is not there at the moment.
    NotNow,
    /// Not what can be asked here.
    Misplaced,
}

/// What is not done: of which kind, and the sentence. Both processes that refuse make it where they
/// find out, and it goes to the application as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of which kind, for programs.
    pub refusal: Refusal,
    /// A sentence that says why and what to do.
    pub reason: String,
}

impl Refused {
    /// A refusal of this kind for this reason.
    pub fn new(refusal: Refusal, reason: impl Into<String>) -> Self {
        Self { refusal, reason: reason.into() }
    }

    /// A value that cannot be.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::new(Refusal::Invalid, reason)
    }

    /// What is named is taken.
    pub fn in_use(reason: impl Into<String>) -> Self {
        Self::new(Refusal::InUse, reason)
    }

    /// There is no such thing.
    pub fn not_there(reason: impl Into<String>) -> Self {
        Self::new(Refusal::NotThere, reason)
    }

    /// A limit is reached.
    pub fn full(reason: impl Into<String>) -> Self {
        Self::new(Refusal::Full, reason)
    }

    /// This user may not.
    pub fn not_allowed(reason: impl Into<String>) -> Self {
        Self::new(Refusal::NotAllowed, reason)
    }

    /// Not built alike.
    pub fn version(reason: impl Into<String>) -> Self {
        Self::new(Refusal::Version, reason)
    }

    /// Not at the moment.
    pub fn not_now(reason: impl Into<String>) -> Self {
        Self::new(Refusal::NotNow, reason)
    }

    /// Not what can be asked here.
    pub fn misplaced(reason: impl Into<String>) -> Self {
        Self::new(Refusal::Misplaced, reason)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for Reply {
    fn from(Refused { refusal, reason }: Refused) -> Self {
        Self::Refused { refusal, reason }
    }
}

impl From<Refused> for Answer {
    fn from(Refused { refusal, reason }: Refused) -> Self {
        Self::Refused { refusal, reason }
    }
}
