//! Starts every port that EAL's arguments name, sends each frame that arrives back where it came
//! from, and says what was started, how long that took and what it cost.
//!
//! ```text
//! cargo run --release -p dpdk --example ports -- -l 0 --no-huge -m 128 --vdev net_null0
//! cargo run --release -p dpdk --example ports -- --drivers
//! ```
//! It runs for two seconds. On net_ring it begins with a burst of its own, which then goes round.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use dpdk::{BURST, Burst, DRIVERS, Eal, EalArgs, LEFT_OUT, Pool, Port, PortConfig, StartedPort};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), Box<dyn Error>> {
    if words == ["--drivers"] {
        print_drivers();
        return Ok(());
    }
    let args = EalArgs::parse(words)?;
    println!("{args}");
    let begin = now();
    let eal = Eal::init(&args)?;
    println!("EAL: {:?}, {} KB resident", begin.elapsed(), resident_kb()?);

    let begin = now();
    let pool = Pool::create(&eal, "ports", 8_191, 256, Pool::DATA_ROOM)?;
    println!("pool: {:?}, {} KB resident", begin.elapsed(), resident_kb()?);
    let mut ports = Vec::new();
    for id in Port::all(&eal) {
        let begin = now();
        let port = Port::open(&eal, id)?;
        println!("{:#?}", port.info()?);
        let started = port.configure(&PortConfig::new(vec![pool.clone()]))?;
        println!("port {id}: started in {:?}, {} KB resident", begin.elapsed(), resident_kb()?);
        ports.push(started);
    }
    reflect(&pool, &mut ports);
    for started in ports {
        println!("port {}: {:?}", started.control.id(), started.control.stats()?);
        let StartedPort { rx, tx, control } = started;
        control.stop(rx, tx)?;
    }
    drop(pool);
    if let Err(why) = eal.close() {
        println!("{why}");
    }
    Ok(())
}

/// Sends back what arrives, for two seconds.
fn reflect(pool: &Pool, ports: &mut [StartedPort]) {
    let mut burst = Burst::new();
    for port in ports.iter_mut().filter(|port| port.control.name().starts_with("net_ring")) {
        pool.alloc_into(&mut burst, BURST);
        for mbuf in &mut burst {
            let fits = mbuf.set_len(64);
            debug_assert!(fits.is_ok(), "a pool's frames have room for the smallest");
        }
        port.tx[0].send(&mut burst);
        burst.clear();
    }
    let (begin, mut frames, mut lost) = (now(), 0_usize, 0_usize);
    while begin.elapsed() < Duration::from_secs(2) {
        for port in ports.iter_mut() {
            for _ in 0..256 {
                frames += port.rx[0].receive(&mut burst);
                port.tx[0].send(&mut burst);
                lost += burst.len();
                burst.clear();
            }
        }
    }
    let rate = frames as f64 / begin.elapsed().as_secs_f64() / 1e6;
    println!("{frames} frames reflected, {rate:.2} million a second, {lost} without room to send");
}

fn print_drivers() {
    for driver in DRIVERS {
        println!("{:15} {:?}: {} {:?}", driver.library, driver.kind, driver.what, driver.devices);
    }
    println!("left out:");
    for left_out in LEFT_OUT {
        println!("{}: {}", left_out.libraries.join(" "), left_out.why);
    }
}

#[expect(clippy::disallowed_methods, reason = "an example that measures")]
fn now() -> Instant {
    Instant::now()
}

fn resident_kb() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.ok_or("/proc/self/status has no VmRSS")?.parse()?)
}
