//! Applications that lie or stop, beside one that serves kernel clients: nobody else notices. What
//! counts are exchanges, not times.

use std::os::fd::OwnedFd;
use std::time::Duration;

use xtcp::{Accept, Application, Attach, GroupOptions};
use xtcp_bench::clock::Deadline;
use xtcp_bench::process::Running;
use xtcp_ring::layout::{flag, op};
use xtcp_ring::message::VERSION;
use xtcp_ring::{
    ApplicationChannel, EndpointLayout, Mapping, Reply, Request, Seqpacket, SharedMemory,
    Submission,
};

use crate::rig::{Rig, SERVER_V4, SERVER_V6, Swept, steps};

const PORT: u16 = 7777;
const OTHER: u16 = 7778;
const PATIENCE: Duration = Duration::from_secs(60);
/// The exchanges that have to be right whatever the others do.
const EXCHANGES: u64 = 50 * 200;

/// Clients of the honest application; they take several seconds.
fn start_load(rig: &Rig) -> Running {
    let load = rig.client_launch(&format!(
        "--target {SERVER_V4}:{PORT} --target [{SERVER_V6}]:{PORT} --framing presence \
         --connections 50 --load rounds=200,sizes=1..3000,rate=2000"
    ));
    load.start().unwrap_or_else(|error| panic!("{error}"))
}

/// Every exchange was made, and no connection failed.
fn finish_load(mut load: Running) {
    let status = load.wait(Duration::from_secs(120)).unwrap_or_else(|error| panic!("{error}"));
    let steps = steps(&load.said());
    assert!(status.success(), "{status}\n{steps:#?}");
    assert_eq!((steps[1].done, steps[1].failed), (EXCHANGES, 0), "{steps:#?}");
}

fn figure(appliance: &Swept, application: &str, column: &str) -> Option<u64> {
    let pools = appliance.show("pools").unwrap_or_else(|error| panic!("{error}"));
    let pool = pools.iter().find(|pool| pool["application"] == application)?;
    pool[column].as_u64()
}

fn wait_until_gone(appliance: &Swept, application: &str) {
    let gone = || figure(appliance, application, "receive (bytes)").is_none().then_some(());
    assert!(Deadline::within(PATIENCE).poll(gone).is_some(), "{application} is still there");
}

/// How often applications were cut off for a lie.
fn cut_off_for(appliance: &Swept, lie: &str) -> u64 {
    let counters = appliance.show("counters").unwrap_or_else(|error| panic!("{error}"));
    let row = counters.iter().find(|row| row.values().any(|value| value == lie));
    let row = row.unwrap_or_else(|| panic!("no counter {lie}"));
    row.values().filter_map(serde_json::Value::as_u64).sum()
}

/// An application that writes into its rings what it likes.
struct Liar {
    xtcpd: Seqpacket,
    channel: ApplicationChannel,
    layout: EndpointLayout,
    memory: OwnedFd,
    gd: u32,
    _files: Vec<OwnedFd>,
}

impl Liar {
    fn attach(appliance: &Swept) -> Self {
        let path = appliance.run_time_directory().join("xtcpd.sock");
        let xtcpd = Seqpacket::connect(&path, Some(PATIENCE)).unwrap();
        let application = "liar".to_owned();
        let attach = Request::Attach { version: VERSION, application, receive_bytes: 1 << 20 };
        xtcpd.send(&attach, &[]).unwrap();
        let (reply, files) = xtcpd.recv::<Reply>().unwrap();
        let Reply::Attached { layout, .. } = reply else { panic!("{reply:?}") };
        let mut files = files.into_iter();
        let endpoint = files.next().unwrap();
        let memory = endpoint.try_clone().unwrap();
        let endpoint = SharedMemory::from_fd(endpoint, layout.total_bytes()).unwrap();
        let mapping = Mapping::writable(&endpoint).unwrap();
        let channel = ApplicationChannel::open(&mapping, &layout, 0).unwrap();
        let group = xtcp_ring::message::GroupOptions::new("lies", OTHER);
        xtcpd.send(&Request::OpenGroup(group), &[]).unwrap();
        let (reply, _) = xtcpd.recv::<Reply>().unwrap();
        let Reply::Group { gd } = reply else { panic!("{reply:?}") };
        Self { xtcpd, channel, layout, memory, gd, _files: files.collect() }
    }

    /// A submission that would be honest but for its connection, which is stale.
    fn honest(&self) -> Submission {
        Submission { op: op::SEND, gd: self.gd, cd: 1 << 40 | 1, ..Submission::default() }
    }

    fn say(&mut self, submission: &Submission) {
        self.channel.submissions.push(submission).unwrap();
        self.channel.submissions.publish();
    }

    /// Writes over its memory past the rings' rules.
    fn scribble(&self, at: usize, bytes: &[u8]) {
        rustix::io::pwrite(&self.memory, bytes, at as u64).unwrap();
    }
}

type Lie = (&'static str, fn(&mut Liar));

const LIES: [Lie; 7] = [
    ("lie-operation", |liar| liar.say(&Submission { op: 99, ..liar.honest() })),
    ("lie-flags", |liar| liar.say(&Submission { flags: 0x80, ..liar.honest() })),
    ("lie-reserved", |liar| liar.say(&Submission { reserved: 1, ..liar.honest() })),
    ("lie-arena", |liar| liar.say(&Submission { at: u32::MAX, len: 4096, ..liar.honest() })),
    ("lie-connection", |liar| liar.say(&Submission { cd: 9 << 32 | 1, ..liar.honest() })),
    ("lie-batch", |liar| {
        for _ in 0..64 {
            let flags = flag::MORE;
            liar.say(&Submission { flags, ..liar.honest() });
        }
    }),
    ("lie-ring", |liar| {
        let ring = liar.layout.channel(0).submissions;
        liar.scribble(ring, &0x8000_0000_u32.to_le_bytes());
    }),
];

#[test]
fn liars_are_cut_off_and_no_exchange_of_others_is_lost() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let mut xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
    let _presence = appliance.start_presence_with(PORT, 8).unwrap();
    let load = start_load(&rig);
    let mut read = 0;
    for (name, lie) in LIES {
        assert_eq!(cut_off_for(&appliance, name), 0);
        let mut liar = Liar::attach(&appliance);
        lie(&mut liar);
        (_, read) = xtcpd
            .wait_for_line(read, "that the liar is cut off", PATIENCE, |line| {
                line.contains("`liar`") && line.contains("is cut off")
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        wait_until_gone(&appliance, "liar");
        assert_eq!(cut_off_for(&appliance, name), 1);
        // It may still talk to xtcpd, and is told that it is no application any more.
        drop(liar.xtcpd);
    }
    finish_load(load);
    let presence = figure(&appliance, "presence", "receive used (bytes)");
    assert_eq!(presence, Some(0), "every buffer is back");
}

#[test]
fn an_application_that_stops_with_all_its_buffers_taken_costs_nobody_else() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let _xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
    let _presence = appliance.start_presence_with(PORT, 8).unwrap();

    // Attached, open to everyone, and never heard of again.
    let (application, inbox) = Application::attach(&Attach {
        instance: appliance.name.clone(),
        run_dir: appliance.run_dir.clone(),
        receive_bytes: 1 << 20,
        ..Attach::new("stopped")
    })
    .unwrap();
    let automatic = GroupOptions { accept: Accept::Automatic, ..GroupOptions::new("full", OTHER) };
    application.open_group(&automatic).unwrap();
    let clients_of_the_stopped = rig.client_launch(&format!(
        "--target {SERVER_V4}:{OTHER} --connections 100 --patience 300 \
         --load rounds=1,sizes=1048576"
    ));
    let clients_of_the_stopped =
        clients_of_the_stopped.start().unwrap_or_else(|error| panic!("{error}"));
    let room = figure(&appliance, "stopped", "receive for payload (bytes)").unwrap();
    let filled = || {
        let used = figure(&appliance, "stopped", "receive used (bytes)")?;
        (used >= room / 2).then_some(used)
    };
    let used = Deadline::within(PATIENCE).poll(filled).expect("its buffers fill");
    println!("{used} of {room} B are taken");

    let load = start_load(&rig);
    finish_load(load);
    assert_eq!(figure(&appliance, "presence", "receive used (bytes)"), Some(0));
    assert!(figure(&appliance, "stopped", "receive used (bytes)").unwrap() >= room / 2);

    drop((application, inbox));
    wait_until_gone(&appliance, "stopped");
    drop(clients_of_the_stopped);
    finish_load(start_load(&rig));
}
