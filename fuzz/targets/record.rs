//! A load without a server, from a cache in which anything may lie: the record, the listing, small files, weights, divided
//! by zero bytes.
#![no_main]

use std::rc::Rc;

use aim_web_fuzz::error::checked;
use aim_web_fuzz::server::{self, Memory, Server};
use aim_web_fuzz::sink::Kept;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _watch = aim_web_fuzz::time::watch();
    let names = ["record", "listing", "text", "0"];
    let parts = data.splitn(names.len(), |byte| *byte == 0);
    let any = names
        .into_iter()
        .map(str::to_owned)
        .zip(parts.map(<[u8]>::to_vec));
    let server = Server::away();
    let cache = Rc::new(Memory::of_any(any.collect()));
    for model in ["user/model", "https://example.org/model"] {
        let _ = checked(server::load(
            &server,
            Some(cache.clone()),
            model,
            &mut Kept::new(1),
        ));
    }
});
