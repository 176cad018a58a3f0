//! What a hub says of a repository.
#![no_main]

use std::collections::BTreeMap;

use aim_web::weights::remote::listing::Listing;
use aim_web_fuzz::error::checked;
use aim_web_fuzz::server::{self, Server};
use aim_web_fuzz::sink::Kept;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _watch = aim_web_fuzz::time::watch();
    if let Ok(text) = str::from_utf8(data)
        && let Some(listing) = checked(Listing::from_hub(text))
    {
        assert_eq!(listing.commit.len(), 40);
        for (name, listed) in listing.files() {
            assert_eq!(listing.file(name), Some(listed));
        }
    }
    let files = BTreeMap::from([(String::new(), data.to_vec())]);
    let server = Server::new(files, Vec::new());
    // It holds nothing but what is said of it.
    assert!(checked(server::load(&server, None, "user/model", &mut Kept::new(1))).is_none());
});
