//! `aim-bench synth`: a random checkpoint in Apple's layout.

use aim_web::Result;
use aim_web::weights::shards::synth;
use serde_json::json;

use crate::args::Synth;
use crate::data::path_text;
use crate::output::{self, say};

pub fn run(args: &Synth) -> Result<()> {
    let config = args.arch.config();
    let bytes = synth::write(
        &config,
        args.seed,
        args.format,
        &args.output,
        args.overwrite,
    )?;
    if args.json {
        return output::print_json(&json!({
            "output": path_text(&args.output),
            "model": args.arch.name(),
            "bytes": bytes,
        }));
    }
    say!("{} ({} bytes)", args.output.display(), bytes)
}
