//! The TCP's options.

use core::time::Duration;

use clap::ValueEnum;
use xtcp_stack::config::{Ecn, SynCookies, TcpConfig};

use super::{CliError, size};

/// The TCP's part of the command line; what is left out keeps the stack's default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "TCP")]
pub struct TcpOptions {
    /// Retransmission timeout before the first measurement [default: 1000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub rto_initial_ms: Option<u64>,
    /// Lower bound of the retransmission timeout [default: 200]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub rto_min_ms: Option<u64>,
    /// Upper bound of the retransmission timeout [default: 60000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1000..=600_000))]
    pub rto_max_ms: Option<u64>,
    /// Unacknowledged for this long, a connection is down [default: 100000]
    #[arg(long, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1000..=86_400_000))]
    pub user_timeout_ms: Option<u64>,
    /// Retransmissions of SYN or SYN-ACK before the handshake is given up [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=15))]
    pub syn_retries: Option<u8>,
    /// Time in TIME-WAIT [default: 60000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=240_000))]
    pub time_wait_ms: Option<u64>,
    /// Time in FIN-WAIT-2 with nobody to read what comes [default: 60000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub fin_wait_2_ms: Option<u64>,
    /// Initial congestion window in segments [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub initial_window: Option<u8>,
    /// Delayed-acknowledgement timer of groups that acknowledge on receive [default: 40]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=499))]
    pub delayed_ack_ms: Option<u64>,
    /// Segments that are acknowledged together, at once, in such groups [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub delayed_ack_segments: Option<u8>,
    /// Segments acknowledged each, at the start and after a silence, in such groups [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8))]
    pub quick_acks: Option<u8>,
    /// Switch Nagle's algorithm off
    #[arg(long)]
    pub no_nagle: bool,
    /// Neither ask for timestamps nor agree to them
    #[arg(long)]
    pub no_timestamps: bool,
    /// Neither ask for selective acknowledgements nor agree to them
    #[arg(long)]
    pub no_sack: bool,
    /// Notice losses by counting, not by time (RACK)
    #[arg(long)]
    pub no_rack: bool,
    /// Do not probe the tail of what was sent for losses
    #[arg(long)]
    pub no_tail_loss_probe: bool,
    /// Let slow start go on until a loss, however long round trips get (no HyStart++)
    #[arg(long)]
    pub no_hystart: bool,
    /// Duplicate acknowledgements that mean a loss [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub duplicate_threshold: Option<u8>,
    /// Window scale to offer [default: 7]
    #[arg(long, value_name = "SHIFT", value_parser = clap::value_parser!(u8).range(0..=14))]
    pub window_scale: Option<u8>,
    /// Bytes one connection may have queued for sending [default: 4MiB]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub send_queue_max: Option<u64>,
    /// Handshakes not completed, at most, per worker [default: 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub half_open_max: Option<u32>,
    /// When handshakes go by cookie, in groups that accept by themselves [default: when-full]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub syn_cookies: Option<Cookies>,
    /// Whether routers may mark packets instead of dropping them [default: accept]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub ecn: Option<Marks>,
    /// Least time between two challenges of one connection [default: 100]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub challenge_interval_ms: Option<u64>,
    /// Resets to one address in a second for segments of no connection; 0: no limit [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16))]
    pub resets_per_second: Option<u16>,
    /// Clients one address may call with in a second, per worker; 0: no limit [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16))]
    pub syns_per_second: Option<u16>,
    /// No ICMP error makes IPv4 packets smaller than this [default: 552]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(68..=9000))]
    pub path_mtu_min: Option<u16>,
    /// After so long a path that was narrow is tried again with full segments [default: 600000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1000..=86_400_000))]
    pub path_mtu_age_ms: Option<u64>,
}

/// When a SYN is answered without keeping anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cookies {
    /// Never: beyond --half-open-max an old handshake makes way, or the SYN is dropped
    Never,
    /// When no more handshakes may be under way
    WhenFull,
    /// Always
    Always,
}

/// Whether routers may mark packets instead of dropping them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Marks {
    /// Never agreed
    Off,
    /// Agreed with peers that ask
    Accept,
    /// Asked for, too
    Ask,
}

impl From<Marks> for Ecn {
    fn from(marks: Marks) -> Self {
        match marks {
            Marks::Off => Self::Off,
            Marks::Accept => Self::Accept,
            Marks::Ask => Self::Ask,
        }
    }
}

impl From<Cookies> for SynCookies {
    fn from(cookies: Cookies) -> Self {
        match cookies {
            Cookies::Never => Self::Never,
            Cookies::WhenFull => Self::WhenFull,
            Cookies::Always => Self::Always,
        }
    }
}

impl TcpOptions {
    /// The choices for the stack.
    ///
    /// # Errors
    /// `--send-queue-max` above 4 GiB, or a lower bound above its upper one.
    pub fn config(&self) -> Result<TcpConfig, CliError> {
        let mut tcp = TcpConfig::default();
        let ms = |value: &mut Duration, option: Option<u64>| {
            if let Some(ms) = option {
                *value = Duration::from_millis(ms);
            }
        };
        ms(&mut tcp.rto_initial, self.rto_initial_ms);
        ms(&mut tcp.rto_min, self.rto_min_ms);
        ms(&mut tcp.rto_max, self.rto_max_ms);
        ms(&mut tcp.user_timeout, self.user_timeout_ms);
        ms(&mut tcp.time_wait, self.time_wait_ms);
        ms(&mut tcp.fin_wait_2, self.fin_wait_2_ms);
        ms(&mut tcp.delayed_ack, self.delayed_ack_ms);
        ms(&mut tcp.challenge_interval, self.challenge_interval_ms);
        tcp.delayed_ack_segments = self.delayed_ack_segments.unwrap_or(tcp.delayed_ack_segments);
        tcp.quick_acks = self.quick_acks.unwrap_or(tcp.quick_acks);
        tcp.ecn = self.ecn.map_or(tcp.ecn, Ecn::from);
        tcp.resets_per_second = self.resets_per_second.unwrap_or(tcp.resets_per_second);
        tcp.syns_per_second = self.syns_per_second.unwrap_or(tcp.syns_per_second);
        tcp.syn_retries = self.syn_retries.unwrap_or(tcp.syn_retries);
        tcp.initial_window = self.initial_window.unwrap_or(tcp.initial_window);
        tcp.window_scale = self.window_scale.unwrap_or(tcp.window_scale);
        tcp.half_open_max = self.half_open_max.unwrap_or(tcp.half_open_max);
        ms(&mut tcp.path_mtu_age, self.path_mtu_age_ms);
        tcp.path_mtu_min = self.path_mtu_min.unwrap_or(tcp.path_mtu_min);
        tcp.duplicate_threshold = self.duplicate_threshold.unwrap_or(tcp.duplicate_threshold);
        tcp.syn_cookies = self.syn_cookies.map_or(tcp.syn_cookies, SynCookies::from);
        tcp.nagle &= !self.no_nagle;
        tcp.timestamps &= !self.no_timestamps;
        tcp.sack &= !self.no_sack;
        tcp.rack &= !self.no_rack;
        tcp.tail_loss_probe &= !self.no_tail_loss_probe;
        tcp.hystart &= !self.no_hystart;
        if let Some(bytes) = self.send_queue_max {
            tcp.send_queue_max = u32::try_from(bytes).map_err(|_| CliError::SendQueueMax)?;
        }
        if tcp.rto_min > tcp.rto_max {
            return Err(CliError::RtoBounds);
        }
        Ok(tcp)
    }
}
