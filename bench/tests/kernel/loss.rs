//! 1,000 kernel clients with random sizes from 1 byte to 1 MB in both directions, over a wire that
//! loses, reorders and duplicates in both directions; every byte is compared.

use crate::rig::{Rig, targets};
use xtcp_bench::machine::Impairments;

const IMPAIRED: Impairments = Impairments { lost: 20, late: 20, twice: 10 };

/// What an application has to acknowledge comes through as well.
#[test]
fn an_application_gets_and_gives_every_byte_over_a_bad_wire() {
    let rig = Rig::new();
    let wire = rig.bad_wire(IMPAIRED);
    let appliance = rig.appliance(&rig.instance_name('a'), wire.near());
    let _xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
    let _presence = appliance.start_presence(7777).unwrap_or_else(|error| panic!("{error}"));
    let seed = crate::rig::seed();
    println!("XTCP_SEED={seed} replays the sizes and bytes");
    let steps = rig.clients(&format!(
        "{} --framing presence --connections 300 --seed {seed} --patience 120 \
         --load rounds=3,sizes=log:1..1048576",
        targets(7777)
    ));
    assert_eq!(steps[1].done, 900, "{steps:?}");
    println!("{} B each way in {:.1} s", steps[1].bytes_received, steps[1].seconds);
    assert!(wire.tally().unwrap().lost > 0);
}

#[test]
fn a_thousand_clients_get_every_byte_over_a_bad_wire() {
    let rig = Rig::new();
    let wire = rig.bad_wire(IMPAIRED);
    let eal = format!("--vdev=net_af_packet0,iface={}", wire.near());
    let own = "--forward-mode=echo --listen-port 7 --receive-bytes 256MiB --transmit-bytes 256MiB";
    let mut dataplane =
        rig.dataplane("echo", &eal, own).start().unwrap_or_else(|error| panic!("{error}"));
    crate::rig::wait_until_up(&mut dataplane);

    let seed = crate::rig::seed();
    println!("XTCP_SEED={seed} replays the sizes and bytes");
    let steps = rig.clients(&format!(
        "{} --connections 1000 --seed {seed} --patience 120 \
         --load rounds=2,sizes=log:1..1048576 --load rounds=1,sizes=1..1048576",
        targets(7)
    ));
    let done: Vec<u64> = steps.iter().map(|step| step.done).collect();
    assert_eq!(done, [1000, 2000, 1000, 1000], "{steps:?}");
    for load in &steps[1..3] {
        println!("{} B each way in {:.1} s", load.bytes_received, load.seconds);
        assert_eq!(load.bytes_sent, load.bytes_received);
    }
    // The smallest and largest sizes have to be far apart for this to mean anything.
    assert!(steps[2].bytes_received > 400 << 20, "{steps:?}");

    // The wire did what it is for: the shares are right, and the kernel's TCP saw the effects.
    let tally = wire.tally().unwrap();
    println!("{tally:?}");
    let share = |count: u64| count as f64 * 1000.0 / tally.frames as f64;
    for (what, count, wanted) in
        [("lost", tally.lost, 20.0), ("late", tally.late, 19.6), ("twice", tally.twice, 9.6)]
    {
        let share = share(count);
        assert!((share - wanted).abs() < wanted / 5.0, "{what}: {share} of 1000, not {wanted}");
    }
    assert!(rig.namespace.tcp_counter("TCPOFOQueue").unwrap() > Some(0));
    let status = dataplane.stop().unwrap();
    assert!(status.success(), "{status}\n{}", dataplane.tail());
}
