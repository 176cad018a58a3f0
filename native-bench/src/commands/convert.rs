//! `aim-bench convert`: any model as shards.

use aim_web::quant::Scheme;
use aim_web::weights::shards::{ShardWriter, StoredAs};
use aim_web::{Error, ErrorKind, Result, weights};
use pollster::block_on;
use serde_json::json;

use crate::args::{Convert, Dtype};
use crate::data::path_text;
use crate::model::{self, Source};
use crate::output::{self, say};
use crate::remote;

/// Weights that share a scale where nobody asks for a number.
const GROUP_SIZE: usize = 64;

pub fn run(args: &Convert) -> Result<()> {
    let dtype = args.model.settings.dtype;
    if matches!(dtype, Dtype::Fp32 | Dtype::Fp16) && args.group_size.is_some() {
        output::note("floats have no scales: --group-size changes nothing");
    }
    let scheme = |bits| Scheme::new(bits, args.group_size.unwrap_or(GROUP_SIZE));
    let (stored, name) = match dtype {
        Dtype::Fp32 => (StoredAs::F32, "fp32"),
        Dtype::Fp16 => (StoredAs::F16, "fp16"),
        Dtype::Q8 => (StoredAs::Quantised(scheme(8)?), "q8"),
        Dtype::Q4 | Dtype::Auto => (StoredAs::Quantised(scheme(4)?), "q4"),
    };
    let model = model::open(&args.model)?;
    if model.head.is_some() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "it is a head alone, which is small as it is: convert its trunk, or a whole model that train --full wrote",
        ));
    }
    let mut writer = ShardWriter::new(
        &args.output,
        args.overwrite,
        model.config.clone(),
        model.labels,
        stored,
    )?;
    match model.source {
        Source::Local(local) => {
            let mut files = local.into_files();
            writer.copy(&mut files, &model.config)?;
        }
        Source::Remote(mut remote) => {
            remote.config = model.config;
            let progress = remote::Progress::new();
            let report = |event: weights::remote::Event| progress.show(&event);
            let streamed = block_on(remote.stream(&mut writer, &report));
            progress.end();
            streamed?;
        }
    }
    let written = writer.finish()?;
    if args.json {
        return output::print_json(&json!({
            "output": path_text(&args.output),
            "dtype": name,
            "shards": written.shards,
            "bytes": written.bytes,
        }));
    }
    say!(
        "{} ({name}, {} shards, {} bytes)",
        args.output.display(),
        written.shards,
        written.bytes
    )?;
    Ok(())
}
