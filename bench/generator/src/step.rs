//! What the clients are asked to do, one step after the other.

use std::fmt;
use std::str::FromStr;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its name in reports.
    pub name: String,
    /// What is done.
    pub action: Action,
}

/// What is done in a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Every client that has no connection connects.
    Connect(Flow),
    /// Requests and answers.
    Load(Load),
    /// Nothing, for so many seconds; what comes is answered.
    Idle {
        /// Seconds.
        seconds: f64,
    },
    /// Every client ends its connection.
    Close(How, Flow),
    /// Every client ends its connection and connects again at once.
    Reconnect(How, Flow),
    /// Forged segments, and beside them what the clients do.
    Flood(Flood),
}

/// Forged segments from addresses that no client has, and beside them exchanges and reconnections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flood {
    /// What is forged.
    pub kind: Forged,
    /// Forged segments per second, whether or not the server can bear it.
    pub rate: f64,
    /// Clients per second that reset their connection, connect again and make one exchange: those
    /// that are not [active](Load::active).
    pub reconnects: f64,
    /// What the active clients do meanwhile, and for how long; its pace is a rate.
    pub load: Load,
}

/// What a flood consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forged {
    /// SYNs of nobody.
    Syn,
    /// ACKs that could end a handshake, had there been any: forged SYN cookies.
    Ack,
}

/// How fast connections are opened or ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// At most so many per second; `None`: as fast as it goes.
    pub rate: Option<f64>,
    /// At most so many under way at once.
    pub under_way: u32,
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By FIN, and the server's FIN.
    Fin,
    /// By RST.
    Reset,
}

/// Requests and answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// How long requests are begun.
    pub seconds: f64,
    /// When.
    pub pace: Pace,
    /// How many clients make them, the same ones again and again; 0: all.
    pub active: u32,
    /// Bytes of a request.
    pub request: u32,
    /// Bytes of an answer.
    pub answer: u32,
}

/// When a request begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many are under way at once, whatever comes of it: finds the highest rate.
    InFlight(u32),
    /// So many per second over all active clients in turn, whether or not answers are there. Latency
    /// counts from the time a request was due, so a server that stalls cannot hide it.
    Rate(f64),
    /// Each active client so many milliseconds after its last answer.
    Think(f64),
}

/// Why a step cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepError(String);

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StepError {}

/// Connections under way at once if nobody says otherwise: fewer frames than a device's ring holds.
const UNDER_WAY: u32 = 512;
/// Bytes of a request or an answer, at most.
const SIZE_MAX: u32 = 1 << 20;

impl FromStr for Step {
    type Err = StepError;

    /// `connect`, `connect,rate=100000,under-way=512`, `load,seconds=5,in-flight=256`,
    /// `load,rate=30000,active=1000,request=1024,answer=1024`, `load,think-ms=50`,
    /// `idle,seconds=3`, `close,how=rst`, `reconnect,how=fin`,
    /// `flood,kind=syn,rate=1000000,seconds=30,exchanges=10000,reconnects=100,active=500`; each with
    /// `name=..` for the reports.
    fn from_str(text: &str) -> Result<Self, StepError> {
        let mut words = text.split(',');
        let verb = words.next().unwrap_or_default();
        let mut read = Read::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            read.set(key, value).ok_or_else(|| {
                StepError(format!(
                    "`{word}` in the step `{text}`: write name=, rate=, under-way=, seconds=, \
                     in-flight=, think-ms=, active=, request=, answer=, how=fin|rst, \
                     kind=syn|ack, exchanges= or reconnects="
                ))
            })?;
        }
        let flow = Flow { rate: read.rate, under_way: read.under_way.unwrap_or(UNDER_WAY) };
        let how = read.how.unwrap_or(How::Fin);
        let action = match verb {
            "connect" => Action::Connect(flow),
            "load" => Action::Load(read.load()),
            "idle" => Action::Idle { seconds: read.seconds.unwrap_or(1.0) },
            "close" => Action::Close(how, flow),
            "reconnect" => Action::Reconnect(how, flow),
            "flood" => Action::Flood(read.flood()),
            _ => {
                return Err(StepError(format!(
                    "`{verb}` is no step: write connect, load, idle, close, reconnect or flood"
                )));
            }
        };
        Ok(Self { name: read.name.unwrap_or_else(|| verb.to_owned()), action })
    }
}

#[derive(Default)]
struct Read {
    name: Option<String>,
    rate: Option<f64>,
    under_way: Option<u32>,
    seconds: Option<f64>,
    in_flight: Option<u32>,
    think_ms: Option<f64>,
    active: Option<u32>,
    request: Option<u32>,
    answer: Option<u32>,
    how: Option<How>,
    kind: Option<Forged>,
    exchanges: Option<f64>,
    reconnects: Option<f64>,
}

impl Read {
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let positive = || value.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
        let count = || value.parse().ok().filter(|n: &u32| *n > 0);
        let size = || count().filter(|n| *n <= SIZE_MAX);
        match key {
            "name" => self.name = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "rate" => self.rate = Some(positive()?),
            "under-way" => self.under_way = Some(count()?),
            "seconds" => self.seconds = Some(positive()?),
            "in-flight" => self.in_flight = Some(count()?),
            "think-ms" => self.think_ms = Some(positive()?),
            "active" => self.active = Some(value.parse().ok()?),
            "request" => self.request = Some(size()?),
            "answer" => self.answer = Some(size()?),
            "how" => {
                self.how = Some(match value {
                    "fin" => How::Fin,
                    "rst" => How::Reset,
                    _ => return None,
                });
            }
            "kind" => {
                self.kind = Some(match value {
                    "syn" => Forged::Syn,
                    "ack" => Forged::Ack,
                    _ => return None,
                });
            }
            "exchanges" => self.exchanges = Some(positive()?),
            "reconnects" => self.reconnects = Some(positive()?),
            _ => return None,
        }
        Some(())
    }

    fn flood(&self) -> Flood {
        Flood {
            kind: self.kind.unwrap_or(Forged::Syn),
            rate: self.rate.unwrap_or(1_000_000.0),
            reconnects: self.reconnects.unwrap_or(100.0),
            load: Load { pace: Pace::Rate(self.exchanges.unwrap_or(1000.0)), ..self.load() },
        }
    }

    fn load(&self) -> Load {
        let pace = match (self.rate, self.think_ms) {
            (Some(rate), _) => Pace::Rate(rate),
            (None, Some(ms)) => Pace::Think(ms),
            (None, None) => Pace::InFlight(self.in_flight.unwrap_or(256)),
        };
        let request = self.request.unwrap_or(64);
        Load {
            seconds: self.seconds.unwrap_or(5.0),
            pace,
            active: self.active.unwrap_or(0),
            request,
            answer: self.answer.unwrap_or(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_back_as_written() {
        let step: Step =
            "load,name=x,rate=30000,seconds=2.5,active=7,request=1024".parse().unwrap();
        assert_eq!(step.name, "x");
        let load = Load {
            seconds: 2.5,
            pace: Pace::Rate(30_000.0),
            active: 7,
            request: 1024,
            answer: 1024,
        };
        assert_eq!(step.action, Action::Load(load));
        let step: Step = "reconnect,how=rst,under-way=9".parse().unwrap();
        assert_eq!(step.action, Action::Reconnect(How::Reset, Flow { rate: None, under_way: 9 }));
        assert_eq!(step.name, "reconnect");
    }

    #[test]
    fn a_flood_reads_back_as_written() {
        let step: Step = "flood,kind=ack,rate=2e6,seconds=30,exchanges=500,reconnects=7,active=9"
            .parse()
            .unwrap();
        let load =
            Load { seconds: 30.0, pace: Pace::Rate(500.0), active: 9, request: 64, answer: 64 };
        let flood = Flood { kind: Forged::Ack, rate: 2e6, reconnects: 7.0, load };
        assert_eq!(step, Step { name: "flood".to_owned(), action: Action::Flood(flood) });
        let Action::Flood(usual) = "flood".parse::<Step>().unwrap().action else { panic!() };
        assert_eq!((usual.kind, usual.rate), (Forged::Syn, 1e6));
    }

    #[test]
    fn a_wrong_step_is_refused_with_the_word_that_is_wrong() {
        for (text, wrong) in [
            ("conect", "`conect`"),
            ("load,rate=0", "`rate=0`"),
            ("load,rat=5", "`rat=5`"),
            ("close,how=kill", "`how=kill`"),
            ("load,request=0", "`request=0`"),
            ("load,answer=2000000", "`answer=2000000`"),
            ("flood,kind=fin", "`kind=fin`"),
        ] {
            let sentence = text.parse::<Step>().unwrap_err().to_string();
            assert!(sentence.starts_with(wrong), "{sentence}");
        }
    }
}
