//! The test server by itself: `cargo run --example hub -- ROOT [PORT]` serves `ROOT/USER/NAME` as
//! the hub would, and prints its address. See `tests/hub`.
#![allow(missing_docs)]

#[path = "../tests/hub/mod.rs"]
mod hub;

fn main() {
    let mut args = std::env::args().skip(1);
    let Some(root) = args.next() else {
        eprintln!("usage: hub ROOT [PORT]");
        std::process::exit(2);
    };
    let port = args.next().and_then(|port| port.parse().ok()).unwrap_or(0);
    let server = hub::Hub::start(root.as_ref(), port);
    println!("{}", server.endpoint);
    loop {
        std::thread::park();
    }
}
