//! `aim-bench preprocess`: picture in, tensor out.

use aim_web::engine::HostTensor;
use aim_web::image::Preprocessor;
use aim_web::{Error, ErrorKind, Result};
use serde_json::json;

use super::read_picture;
use crate::args::Preprocess;
use crate::tensors;
use crate::{model, output};

/// The size of the released models.
const DEFAULT_IMG_SIZE: usize = 224;

pub fn run(args: &Preprocess) -> Result<()> {
    let picture = read_picture(&args.image)?;
    let preprocessor = Preprocessor::new(img_size(args)?)?;
    let size = preprocessor.img_size();
    let input = HostTensor {
        shape: vec![1, 3, size, size],
        values: preprocessor.tensor(&picture),
    };
    let shape = input.shape.clone();
    tensors::write(&args.output, &[("input".to_owned(), input)])?;

    if args.json {
        output::print_json(&json!({ "output": args.output, "input": shape }))?;
    } else {
        println!("{}\n  input {shape:?}", args.output.display());
    }
    Ok(())
}

fn img_size(args: &Preprocess) -> Result<usize> {
    if let Some(size) = args.img_size {
        return Ok(size);
    }
    if args.model.model.is_none() && args.model.backbone.is_none() {
        return Ok(args
            .model
            .arch
            .map_or(DEFAULT_IMG_SIZE, |family| family.config().img_size[0]));
    }
    let [height, width] = model::open(&args.model)?.config.img_size;
    if height != width {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the model takes pictures of {height}x{width}, and the crop is a square; say its side with --img-size"
            ),
        ));
    }
    Ok(height)
}
