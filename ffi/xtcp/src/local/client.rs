//! One local client: its socket, what it has sent, and what waits for it to read.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use rustix::net::{recv, sendmsg, shutdown};

use super::buffers::{BLOCK, Buffers};

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits to be accepted, so long.
    Waiting(Instant),
    Open,
    /// It is gone, and its last notice is written; it stays while bytes of its are with the
    /// application.
    Gone,
}

/// What reading or writing has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// So many bytes.
    Bytes(usize),
    /// The socket has nothing, or no room, now.
    Nothing,
    /// The client sends no more.
    End,
    /// The client is gone.
    Broken,
}

/// Bytes that were put into the receive buffer, where they belong in the stream, and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) offset: u64,
    pub(super) at: u64,
    pub(super) len: u16,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) gd: u32,
    pub(super) cd: u64,
    socket: Option<OwnedFd>,
    pub(super) stage: Stage,
    /// Blocks with bytes that are not acknowledged, in the order of the stream.
    blocks: VecDeque<u32>,
    /// Stream offset of the first byte of the first block.
    begin: u64,
    /// Stream offset behind what was read.
    pub(super) read: u64,
    pub(super) acknowledged: u64,
    /// Most bytes to be read ahead of the acknowledgements.
    window: u64,
    out: VecDeque<u8>,
    /// Close when everything has gone out.
    pub(super) closing: bool,
    /// It sends no more.
    pub(super) finished: bool,
    /// There was no buffer, or no notice, for what it has sent.
    pub(super) starved: bool,
    /// What the kernel is asked to tell of the socket.
    pub(super) watched: EventFlags,
}

impl Client {
    pub(super) fn new(gd: u32, cd: u64, socket: OwnedFd, window: u32, until: Instant) -> Self {
        Self {
            gd,
            cd,
            socket: Some(socket),
            stage: Stage::Waiting(until),
            blocks: VecDeque::new(),
            begin: 0,
            read: 0,
            acknowledged: 0,
            window: u64::from(window),
            out: VecDeque::new(),
            closing: false,
            finished: false,
            starved: false,
            watched: EventFlags::empty(),
        }
    }

    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Bytes that wait for it to read.
    pub(super) fn queued(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing of its is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.acknowledged == self.read
    }

    /// What the kernel is to tell of the socket.
    pub(super) fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        if self.stage == Stage::Open {
            wanted.set(EventFlags::IN, self.is_readable() && !self.starved);
            wanted.set(EventFlags::OUT, !self.out.is_empty());
        }
        wanted
    }

    /// Whether what it sends is to be read.
    pub(super) fn is_readable(&self) -> bool {
        self.stage == Stage::Open && !self.finished && !self.closing && self.window_left() > 0
    }

    fn window_left(&self) -> u64 {
        self.window.saturating_sub(self.read - self.acknowledged)
    }

    /// How many bytes can be read now.
    pub(super) fn room(&self, buffers: &Buffers) -> usize {
        let free = u64::try_from(buffers.free()).unwrap_or(u64::MAX) * u64::from(BLOCK);
        let most = self.window_left().min(self.tail_room() + free);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Room in the last block.
    fn tail_room(&self) -> u64 {
        let all = self.blocks.len() as u64 * u64::from(BLOCK);
        all - self.read.saturating_sub(self.begin).min(all)
    }

    /// Reads into `scratch`, which is no longer than [`Self::room`].
    pub(super) fn receive(&mut self, scratch: &mut [u8]) -> Went {
        let Some(socket) = &self.socket else { return Went::Broken };
        loop {
            match recv(socket, &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Went::End,
                Ok((count, _)) => return Went::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Went::Nothing,
                Err(_) => return Went::Broken,
            }
        }
    }

    /// Keeps bytes that were read, for which there is room, and tells where.
    pub(super) fn keep(
        &mut self,
        mut bytes: &[u8],
        buffers: &mut Buffers,
        mut tell: impl FnMut(Told),
    ) {
        while !bytes.is_empty() {
            if self.tail_room() == 0 {
                let Some(block) = buffers.take() else { return };
                if self.blocks.is_empty() {
                    self.begin = self.read;
                }
                self.blocks.push_back(block);
            }
            let room = usize::try_from(self.tail_room()).unwrap_or(0);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            let Some(block) = self.blocks.back() else { return };
            let in_block = u32::try_from((self.read - self.begin) % u64::from(BLOCK)).unwrap_or(0);
            let at = buffers.write(*block, in_block, now);
            let len = u16::try_from(now.len()).unwrap_or(u16::MAX);
            tell(Told { offset: self.read, at, len });
            self.read += u64::from(len);
            bytes = rest;
        }
    }

    /// Everything up to a stream offset is done with.
    pub(super) fn acknowledge(&mut self, up_to: u64, buffers: &mut Buffers) {
        self.acknowledged = self.acknowledged.max(up_to.min(self.read));
        let done = self.acknowledged == self.read;
        while done || self.acknowledged - self.begin >= u64::from(BLOCK) {
            let Some(block) = self.blocks.pop_front() else { return };
            buffers.give_back(block);
            self.begin += u64::from(BLOCK);
        }
    }

    /// Sends bytes behind all others; what the socket does not take waits here.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Went {
        let mut rest = bytes;
        if self.out.is_empty() {
            match self.write(&[rest]) {
                Went::Bytes(count) => rest = rest.get(count..).unwrap_or_default(),
                Went::Nothing => {}
                broken => return broken,
            }
        }
        self.out.extend(rest);
        Went::Bytes(bytes.len())
    }

    /// Goes on with what waits.
    pub(super) fn flush(&mut self) -> Went {
        if self.out.is_empty() {
            return Went::Nothing;
        }
        let (first, second) = self.out.as_slices();
        let went = self.write(&[first, second]);
        if let Went::Bytes(count) = went {
            self.out.drain(..count);
        }
        went
    }

    fn write<const N: usize>(&self, bytes: &[&[u8]; N]) -> Went {
        let Some(socket) = &self.socket else { return Went::Broken };
        let slices = bytes.map(IoSlice::new);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(count) => return Went::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Went::Nothing,
                Err(_) => return Went::Broken,
            }
        }
    }

    /// Ends the connection. What the client has not read of what was sent it still can; what it
    /// sent and nobody read it learns of by a reset.
    pub(super) fn end(&mut self, watch: &OwnedFd) {
        self.stage = Stage::Gone;
        self.out = VecDeque::new();
        let watched = std::mem::replace(&mut self.watched, EventFlags::empty());
        if let Some(socket) = self.socket.take() {
            // A forked child may have a copy, which would keep the connection open and watched.
            if !watched.is_empty() {
                let _ = epoll::delete(watch, &socket);
            }
            let _ = shutdown(&socket, Shutdown::Both);
        }
    }

    /// Gives its blocks back.
    pub(super) fn give_up(&mut self, buffers: &mut Buffers) {
        self.acknowledge(self.read, buffers);
    }
}
