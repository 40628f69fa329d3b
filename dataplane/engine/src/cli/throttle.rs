//! The throttle's options.

use xtcp_stack::config::Throttle;

use super::CliError;

/// The throttle's part of the command line; what is left out keeps the stack's default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Throttling (0 turns a step off)")]
pub struct ThrottleOptions {
    /// Offered windows shrink when less is free of a pool's receive memory or of the transmit
    /// buffer [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub shrink_below: Option<u8>,
    /// Only applications acknowledge when less is free [default: 20]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub withhold_below: Option<u8>,
    /// Text is dropped, to come again, when less is free [default: 10]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub hide_below: Option<u8>,
    /// The most that one pool takes of what all share [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub pool_share: Option<u8>,
}

impl ThrottleOptions {
    /// The choices for the stack.
    ///
    /// # Errors
    /// A step that would come before the one it is to follow.
    pub fn config(&self) -> Result<Throttle, CliError> {
        let default = Throttle::default();
        let throttle = Throttle {
            shrink_below: self.shrink_below.unwrap_or(default.shrink_below),
            withhold_below: self.withhold_below.unwrap_or(default.withhold_below),
            hide_below: self.hide_below.unwrap_or(default.hide_below),
            pool_share: self.pool_share.unwrap_or(default.pool_share),
        };
        throttle.check().map_err(CliError::Throttle)?;
        Ok(throttle)
    }
}
