//! What an application can do wrong.

use core::fmt;

/// Why a command was refused. Nothing of it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Misuse {
    /// The handle names no connection, or one that is gone.
    StaleConnection = 1,
    /// The handle names no group.
    StaleGroup = 2,
    /// The connection is not of this group.
    NotInGroup = 3,
    /// No SYN waits for acceptance on this connection.
    NotAcceptable = 4,
    /// More is acknowledged than was given.
    BeyondGiven = 5,
    /// The connection is not open for sending: closed, closing or not yet open.
    NotOpen = 6,
    /// The shared transmit buffer has no room for these bytes now.
    NoBuffer = 7,
    /// The connection has too much queued already.
    SendQueueFull = 8,
    /// No pool of this number.
    NoSuchPool = 9,
    /// No event queue of this number.
    NoSuchQueue = 10,
    /// The table is full: pools, groups, connections or active connections.
    TableFull = 11,
    /// No own address of the remote address's family.
    NoAddress = 12,
    /// The group is being drained and takes nobody any more.
    Draining = 13,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StaleConnection => "the handle names no connection, or one that is gone",
            Self::StaleGroup => "the handle names no group",
            Self::NotInGroup => "the connection is not of this group",
            Self::NotAcceptable => "no SYN waits for acceptance on this connection",
            Self::BeyondGiven => "more is acknowledged than was given",
            Self::NotOpen => "the connection is not open for sending",
            Self::NoBuffer => "the shared transmit buffer is full",
            Self::SendQueueFull => "the connection has too much queued already",
            Self::NoSuchPool => "no pool of this number",
            Self::NoSuchQueue => "no event queue of this number",
            Self::TableFull => "the table is full",
            Self::NoAddress => "no own address of that family",
            Self::Draining => "the group is being drained",
        })
    }
}

impl core::error::Error for Misuse {}
