//! The clients against XTCP's stack in one thread, over a link that loses, doubles and reorders from
//! a seed.

mod world;

use xtcp_generator::clients::{Event, Failure};
use xtcp_generator::driver::News;
use xtcp_report::sample::StepReport;

use world::{Link, Server, World, steps};

/// Runs to the end; gives what was told of each step.
fn run(mut world: World) -> Vec<StepReport> {
    world.run();
    let of_step = |news| match news {
        News::Step(told) => Some(told.0),
        News::Second(_) => None,
    };
    world.news.into_iter().filter_map(of_step).collect()
}

#[test]
fn every_exchange_is_answered_and_every_client_closes_on_a_good_link() {
    let script = "connect load,in-flight=16,seconds=0.05,request=100 \
                  load,rate=20000,seconds=0.1,request=1024,active=30 \
                  load,think-ms=7,seconds=0.1,request=3000 idle,seconds=0.1 \
                  reconnect,how=rst reconnect,how=fin close";
    let told = run(World::new(100, Link::good(), Server::Echo, &steps(script)));
    assert_eq!(told.len(), 8);
    for step in &told {
        assert_eq!((step.failed, step.missed, step.damaged, step.resent), (0, 0, 0, 0), "{step:?}");
        assert_eq!(step.answers, step.requests);
    }
    assert_eq!((told[0].opened, told[0].open), (100, 100));
    assert!(told[1].answers > 1000, "{}", told[1].answers);
    assert_eq!((told[2].answers, told[2].active), (2000, 30));
    assert_eq!(told[2].bytes_in, 2000 * 1024);
    // 100 clients, one exchange in 7 ms and a little.
    assert!((1000..=1500).contains(&told[3].answers), "{}", told[3].answers);
    assert_eq!((told[5].opened, told[5].closed, told[5].open), (100, 100, 100));
    assert_eq!((told[6].opened, told[6].closed, told[6].open), (100, 100, 100));
    assert_eq!((told[7].closed, told[7].open), (100, 0));
}

#[test]
fn ipv6_clients_find_their_server_too() {
    let told = run(World::v6(50, &steps("connect load,in-flight=8,seconds=0.02 close")));
    assert!(told[1].answers > 100 && told.iter().all(|step| step.failed == 0));
    assert_eq!((told[0].opened, told[2].closed), (50, 50));
}

#[test]
fn loss_duplication_and_reordering_cost_time_and_nothing_else() {
    for seed in 1..=6 {
        let script = "connect load,rate=2000,seconds=0.5,request=5000 reconnect,how=fin close";
        let told = run(World::new(40, Link::bad(seed), Server::Echo, &steps(script)));
        for step in &told {
            assert_eq!((step.failed, step.damaged), (0, 0), "seed {seed}: {step:?}");
            assert_eq!(step.answers, step.requests, "seed {seed}");
        }
        assert_eq!((told[0].opened, told[3].open), (40, 0), "seed {seed}");
        assert_eq!(told[1].answers + told[1].missed, 1000, "seed {seed}");
        assert!(told[1].resent > 0, "seed {seed}: nothing was lost, so this tests nothing");
    }
}

#[test]
fn a_stall_of_the_server_shows_in_every_latency_it_delays() {
    // Ten requests a millisecond; the server sleeps for 50 ms once.
    let mut world = World::new(
        1000,
        Link::good(),
        Server::Echo,
        &steps("connect load,name=l,rate=10000,seconds=0.5"),
    );
    world.server_sleeps(1_300_000_000, 50_000_000);
    let told = run(world);
    let latency = told[1].latency.expect("there were answers");
    assert_eq!((told[1].answers, told[1].missed), (5000, 0));
    // One request in ten was due while it slept; half of those waited for more than 25 ms. A
    // generator that waits for answers before it asks would have seen a few.
    assert!(latency.p99_us > 40_000.0, "{latency:?}");
    assert!(latency.p90_us < 10_000.0 && latency.p50_us < 1000.0, "{latency:?}");
}

#[test]
fn answers_of_letters_are_compared_from_their_first_byte() {
    let script = steps("connect load,in-flight=4,seconds=0.02,request=64,answer=4000 close");
    let told =
        run(World::new(10, Link::good(), Server::Letters { request: 64, answer: 4000 }, &script));
    assert!(told[1].answers > 10 && told[1].failed == 0, "{:?}", told[1]);
    assert_eq!(told[1].bytes_in, told[1].answers * 4000);
}

#[test]
fn a_wrong_byte_is_found_and_named() {
    let script = steps("connect load,in-flight=1,seconds=0.01,request=200");
    let told = run(World::new(1, Link::good(), Server::Flips { at: 150 }, &script));
    assert_eq!((told[1].failed, told[1].answers), (1, 0));
    assert!(told[1].failures[0].ends_with("an answer had a wrong byte"), "{:?}", told[1].failures);
    assert!(told[1].failures[0].contains("10.65.0.1 port 2000"), "{:?}", told[1].failures);
}

#[test]
fn more_than_was_asked_for_is_found() {
    let script = steps("connect load,in-flight=1,seconds=0.01,request=64,answer=64");
    let told =
        run(World::new(1, Link::good(), Server::Letters { request: 64, answer: 65 }, &script));
    assert_eq!(told[1].failed, 1);
    assert!(
        told[1].failures[0].ends_with("more came than was asked for"),
        "{:?}",
        told[1].failures
    );
}

#[test]
fn damaged_frames_are_counted_and_made_up_for() {
    let script = steps("connect load,rate=1000,seconds=0.3 close");
    let told = run(World::new(10, Link { flip: 20, ..Link::bad(3) }, Server::Echo, &script));
    assert!(told[2].damaged > 0);
    assert!(told.iter().all(|step| step.failed == 0));
}

#[test]
fn a_port_nobody_listens_on_refuses() {
    let told = run(World::new(3, Link::good(), Server::Deaf, &steps("connect")));
    assert_eq!((told[0].failed, told[0].opened), (3, 0));
    assert!(told[0].failures[0].ends_with("the server refused the connection"));
}

#[test]
fn a_silent_server_is_asked_again_with_doubled_patience_and_given_up() {
    let mut world = World::new(1, Link::good(), Server::Echo, &[]);
    world.meet();
    world.server_sleeps(0, u64::MAX);
    world.open(0);
    let mut syns = Vec::new();
    let failed = loop {
        world.now += 10_000_000;
        syns.extend(world.client_turn().iter().map(|_| world.now / 1_000_000_000));
        if let Some(event) = world.events().pop() {
            break event;
        }
    };
    assert_eq!(failed, Event::Failed(0, Failure::Timeout));
    let waits: Vec<u64> = syns.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [2, 4, 8, 16, 32], "each twice the one before, after the first second");
}

#[test]
fn a_lost_request_is_sent_again_after_200_ms_then_400() {
    let mut world = World::new(1, Link::good(), Server::Echo, &[]);
    world.meet();
    world.open(0);
    world.settle();
    assert_eq!(world.events(), [Event::Opened(0)]);
    world.server_sleeps(world.now, u64::MAX);
    world.ask(0);
    let sent = world.now;
    let mut again = Vec::new();
    while again.len() < 3 {
        world.now += 1_000_000;
        let text = world.client_turn().into_iter().filter(|frame| frame.len() > 100);
        again.extend(text.map(|_| (world.now - sent) / 1_000_000));
    }
    // The timer counts whole milliseconds and never fires early.
    assert!((200..=203).contains(&again[0]), "{again:?}");
    assert!((600..=606).contains(&again[1]), "{again:?}");
    assert!((1400..=1410).contains(&again[2]), "{again:?}");
}

#[test]
fn an_answer_is_acknowledged_after_40_ms_or_with_the_next_request() {
    let mut world = World::new(1, Link::good(), Server::Echo, &[]);
    world.meet();
    world.open(0);
    world.settle();
    world.ask(0);
    world.settle();
    assert_eq!(world.events(), [Event::Opened(0), Event::Answered(0)]);
    let answered = world.now;
    let acks = world.clients().counters().acks_out;
    while world.clients().counters().acks_out == acks {
        world.now += 1_000_000;
        world.client_turn();
    }
    assert!((39..=41).contains(&((world.now - answered) / 1_000_000)));
    world.ask(0);
    world.settle();
    world.ask(0);
    world.settle();
    assert_eq!(world.clients().counters().acks_out, acks + 1, "it rode on the request");
}

#[test]
fn clients_are_served_and_come_in_through_a_flood() {
    for kind in ["syn", "ack"] {
        let flood = "rate=100000,seconds=0.3,exchanges=2000,reconnects=200,active=30";
        let script = steps(&format!("connect flood,kind={kind},{flood} close"));
        let told = run(World::new(100, Link::good(), Server::Echo, &script));
        let flood = told[1].flood.expect("it was one");
        assert_eq!((flood.due, flood.sent), (30_000, 30_000), "{flood:?}");
        assert_eq!((told[1].failed, told[1].missed, told[1].opened), (0, 0, 60), "{:?}", told[1]);
        assert_eq!((told[1].answers, told[1].requests), (600 + 60, 600 + 60), "{:?}", told[1]);
        assert_eq!((told[1].open, told[2].closed), (100, 100));
        // Beyond the handshakes that are kept, each has one answer; none is longer than what it answers.
        let answers = if kind == "syn" { flood.syn_acks } else { flood.resets };
        assert!((25_000..=30_000).contains(&answers), "{flood:?}");
        assert_eq!(flood.syn_acks + flood.resets, answers, "{flood:?}");
        assert!(flood.other_answers == 0 && flood.answer_bytes <= flood.bytes, "{flood:?}");
        assert!(told[0].flood.is_none() && told[2].flood.is_none_or(|after| after.sent == 0));
    }
}

#[test]
fn a_flood_of_ipv6_is_no_client_of_ours_either() {
    let told = run(World::v6(50, &steps("connect flood,rate=50000,seconds=0.1 close")));
    let flood = told[1].flood.expect("it was one");
    assert_eq!((flood.sent, told[1].failed, told[1].missed), (5000, 0, 0), "{:?}", told[1]);
    assert_eq!(told[2].closed, 50);
}
