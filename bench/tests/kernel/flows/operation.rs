//! Fig. 6a to 6g and 6i. (6h is the end of Fig. 5d.)

use std::io::{ErrorKind, Read};
use std::time::Duration;

use xtcp::{Accept, Event, GroupOptions};

use super::{App, Captures, End, HANDSHAKE, LEN, PORT, Timers, over_both_families};

/// What the client reads when its connection is reset.
fn is_reset(stream: &mut std::net::TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn fig_6a_a_pool_has_its_own_receive_buffer_and_is_torn_down_alone() {
    over_both_families(Timers::Patient, |scene, server| {
        let mut call = scene.call(server);
        let one = scene.shown("pools", "receive (bytes)");
        let (application, mut inbox) = App::attach(&scene.appliance, "second", 1 << 20);
        let both = scene.shown("pools", "receive (bytes)");
        assert_eq!(both.len(), one.len() + 1);
        assert!(both.contains(&(1 << 20)), "{both:?}");

        application.open_group(&GroupOptions::new("second", PORT + 1)).unwrap();
        let connecting = scene.rig.connecting(server, PORT + 1);
        inbox.wait(Some(super::PATIENCE)).unwrap();
        let mut batch = inbox.receive().unwrap();
        let Some(Event::Acceptable(client)) = batch.next_event() else { panic!("no client") };
        client.accept().unwrap();
        application.flush();
        let mut stream = connecting.join().unwrap().unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        application.detach(inbox).unwrap();
        is_reset(&mut stream);
        assert_eq!(scene.shown("pools", "receive (bytes)"), one);

        call.request();
        scene.app.answer(b"still here");
        call.read_answer(b"still here");
        call.finish(&mut scene.app);
    });
}

#[test]
fn fig_6b_a_group_is_one_descriptor_of_many_connections_and_closes_with_them() {
    over_both_families(Timers::Patient, |scene, server| {
        let options = GroupOptions::new("to-be-closed", PORT + 1);
        let group = scene.app.application.open_group(&options).unwrap();
        let mut streams = Vec::new();
        for _ in 0..3 {
            let connecting = scene.rig.connecting(server, PORT + 1);
            assert_eq!(scene.app.accept().group(), group);
            let stream = connecting.join().unwrap().unwrap();
            stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
            streams.push(stream);
        }
        scene.app.application.close_group(group).unwrap();
        streams.iter_mut().for_each(is_reset);
        let refused = scene.rig.connect(server, PORT + 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn fig_6c_a_client_is_answered_when_it_is_accepted() {
    over_both_families(Timers::Patient, |scene, server| {
        let captures = Captures::start(&scene.rig, &scene.wire);
        let connecting = scene.rig.connecting(server, PORT);
        // 624: the application is told, and nothing is sent before it has decided.
        let seen_before = scene.app.until("a client", |event| {
            let Event::Acceptable(client) = event else { return None };
            captures.wait_for(End::Server, 1);
            let seen = xtcp_bench::capture::count_segments(&captures.at_server.1).unwrap();
            client.accept().unwrap();
            Some(seen)
        });
        assert_eq!(seen_before, 1, "the SYN");
        // 628.
        let connection = scene.app.accept();
        assert_eq!(connection.group(), scene.app.group);
        let stream = connecting.join().unwrap().unwrap();
        captures.wait_for(End::Server, HANDSHAKE.len());
        super::Call { stream, connection, captures }.finish(&mut scene.app);
    });
}

#[test]
fn fig_6c_a_client_that_is_not_accepted_in_time_is_rejected() {
    over_both_families(Timers::Patient, |scene, server| {
        let group = scene.app.application.open_group(&GroupOptions {
            accept: Accept::ByApplication { timeout: Duration::from_millis(300) },
            ..GroupOptions::new("impatient", PORT + 1)
        });
        let captures = Captures::start(&scene.rig, &scene.wire);
        let refused = scene.rig.connect(server, PORT + 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let [at_client, at_server] = captures.finish();
        for seen in [at_client, at_server] {
            let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
            assert_eq!(seen, ["S 0+0", "RA 1+0 ack 1"]);
        }
        scene.app.application.close_group(group.unwrap()).unwrap();
    });
}

#[test]
fn fig_6d_the_parameters_of_a_connection_are_its_client_s() {
    over_both_families(Timers::Patient, |scene, server| {
        let call = scene.call(server);
        let info = scene.app.application.describe(call.connection).unwrap();
        assert_eq!(info.remote, call.stream.local_addr().unwrap());
        assert_eq!(info.local, call.stream.peer_addr().unwrap());
        call.finish(&mut scene.app);
    });
}

/// The request stays with the application for longer than the client's timer.
#[test]
fn fig_6e_a_repeated_request_is_told_of_once_and_not_acknowledged_before_the_application_does() {
    over_both_families(Timers::ClientFirst, |scene, server| {
        let mut call = scene.call(server);
        call.request();
        let mut deferred = scene.app.until("the request", |event| {
            let Event::Request(mut request) = event else { return None };
            (request.len() == LEN).then(|| Some(request.defer(LEN).unwrap()))
        });
        assert_eq!(scene.shown("pools", "receive used (bytes)").len(), 1);
        assert!(scene.shown("pools", "receive used (bytes)")[0] >= LEN as u64, "646: buffered");
        call.captures.wait_for(End::Server, HANDSHAKE.len() + 5);
        let deferred = deferred.take().unwrap();
        let told = scene.app.inbox.receive().unwrap().next_event().is_some();
        assert!(!told, "648: told of once");
        scene.app.application.answer(&deferred, b"answer").unwrap();
        scene.app.application.flush();
        call.read_answer(b"answer");
        // The repetitions cost the client nothing in the end: its congestion window is not smaller
        // than a new connection's.
        let window = call.congestion_window(&scene.rig);
        assert!(window >= 10, "the client's congestion window is {window} segments");
        let [_, at_server] = call.finish(&mut scene.app);
        let answered = at_server.iter().position(|line| line == "S PA 1+6 ack 1001").unwrap();
        let (first, repeated) = at_server[..answered].split_first().unwrap();
        assert_eq!(first, "C PA 1+1000 ack 1");
        assert!(repeated.len() >= 4, "{repeated:?}");
        for line in repeated {
            let known = ["C PA 1+1000 ack 1 (again)", "S A 1+0 ack 1"];
            assert!(known.contains(&line.as_str()), "{line}");
        }
    });
}

#[test]
fn fig_6f_and_6g_a_request_is_read_and_acknowledged_to_the_byte() {
    over_both_families(Timers::Patient, |scene, server| {
        let mut call = scene.call(server);
        call.request();
        scene.app.until("the request", |event| {
            let Event::Request(mut request) = event else { return None };
            if request.len() < LEN {
                return None;
            }
            // 656, 658.
            assert_eq!(request.contiguous().as_ref(), [b'q'; LEN]);
            // 662 to 668.
            request.answer(600, &[b'a'; 500]).unwrap();
            Some(())
        });
        scene.app.application.flush();
        call.read_answer(&[b'a'; 500]);
        call.captures.wait_for(End::Server, HANDSHAKE.len() + 3);
        assert!(scene.shown("pools", "receive used (bytes)")[0] >= 400, "the rest is kept");
        // What was not acknowledged is given again when more comes.
        call.request();
        scene.app.until("the rest", |event| {
            let Event::Request(mut request) = event else { return None };
            (request.len() == 400 + LEN).then(|| request.acknowledge(400 + LEN).unwrap())
        });
        scene.app.application.flush();
        call.captures.wait_for(End::Server, HANDSHAKE.len() + 5);
        assert_eq!(scene.shown("pools", "receive used (bytes)"), [0]);
        let both = call.finish(&mut scene.app);
        let flow = [
            "C PA 1+1000 ack 1",
            "S PA 1+500 ack 601",
            "C A 1001+0 ack 501",
            "C PA 1001+1000 ack 501",
            "S A 501+0 ack 2001",
        ];
        assert_eq!(both, [flow; 2]);
    });
}

/// An answer of several segments leaves the shared transmit buffer with their acknowledgements, and
/// nothing of it is sent again.
#[test]
fn fig_6i_what_is_acknowledged_is_purged_and_not_timed_any_more() {
    over_both_families(Timers::ServerFirst, |scene, server| {
        let mut call = scene.call(server);
        let answer = vec![b'a'; 8 * LEN];
        call.request();
        scene.app.answer(&answer);
        call.read_answer(&answer);
        scene.wait_until_nothing_is_cached();
        assert_eq!(scene.shown("connections", "unsent (bytes)"), [0]);
        let [at_client, _] = call.finish(&mut scene.app);
        assert!(at_client.iter().all(|line| !line.ends_with("(again)")), "{at_client:#?}");
        assert!(at_client.iter().any(|line| line.ends_with(" ack 8001")), "{at_client:#?}");
    });
}
