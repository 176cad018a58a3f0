//! `aim-bench cache`: the models from servers that are kept on this machine.

use aim_web::weights::remote::disk_cache::DiskCache;
use aim_web::{Error, ErrorKind, Result};
use serde_json::json;

use crate::args::{Cache, CacheAction};
use crate::output::{self, say};

pub fn run(args: &Cache) -> Result<()> {
    let cache = DiskCache::from_env().ok_or_else(|| {
        Error::new(
            ErrorKind::Option,
            "there is no home folder to keep models in: set HF_HOME",
        )
    })?;
    match &args.action {
        CacheAction::List { json: true } => {
            let models: Vec<_> = cache
                .list()?
                .into_iter()
                .map(|model| json!({ "name": model.name, "bytes": model.bytes }))
                .collect();
            output::print_json(&models)
        }
        CacheAction::List { json: false } => {
            for model in cache.list()? {
                say!("{:>14}  {}", model.bytes, model.name)?;
            }
            Ok(())
        }
        CacheAction::Delete { name } => {
            let bytes = cache.delete(name)?;
            say!("{name}: {bytes} bytes freed")
        }
    }
}
