//! `aim-bench preprocess`: pictures in, tensor out.

use aim_web::config::Config;
use aim_web::engine::HostTensor;
use aim_web::image::Preprocessor;
use aim_web::weights::local::read_text;
use aim_web::{Error, ErrorKind, Result};
use serde_json::json;

use crate::args::{Model, Preprocess, Source};
use crate::data::path_text;
use crate::output::{self, say};
use crate::pictures::{self, Picture};
use crate::{model, tensors};

/// The size of the released models.
const DEFAULT_IMG_SIZE: usize = 224;

pub fn run(args: &Preprocess) -> Result<()> {
    output::reserve(&[("--output", Some(&args.output))], args.json)?;
    let preprocessor = Preprocessor::new(img_size(args)?)?;
    let size = preprocessor.img_size();
    let mut values = Vec::new();
    for path in &args.images {
        let Picture { pixels, ignored } = pictures::read(path, args.exif)?;
        if let Some(orientation) = ignored {
            output::note(&format!(
                "{}: its EXIF orientation ({}) is ignored, as the reference does; --exif respect turns it",
                path.display(),
                orientation.to_exif()
            ));
        }
        let tensor = preprocessor.tensor(&pixels);
        values.try_reserve(tensor.len()).map_err(|_| {
            Error::new(
                ErrorKind::OutOfMemory,
                "the pictures' tensors do not fit in memory: give fewer pictures, or a smaller --img-size",
            )
        })?;
        values.extend(tensor);
    }
    let input = HostTensor {
        shape: vec![args.images.len(), 3, size, size],
        values,
    };
    let shape = input.shape.clone();
    tensors::write(&args.output, &[("input".to_owned(), input)])?;

    if args.json {
        output::print_json(&json!({ "output": path_text(&args.output), "input": shape }))?;
    } else {
        say!("{}\n  input {shape:?}", args.output.display())?;
    }
    Ok(())
}

fn img_size(args: &Preprocess) -> Result<usize> {
    if let Some(size) = args.img_size {
        return Ok(size);
    }
    let [height, width] = size_of_model(&args.model)?;
    if height != width {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the model takes pictures of {height}x{width}, and the crop is a square; say its side with \
                 --img-size"
            ),
        ));
    }
    Ok(height)
}

/// The pictures that the model takes which the options name, if by its configuration alone.
fn size_of_model(model: &Model) -> Result<[usize; 2]> {
    let source = &model.source;
    if source.model.is_some() || source.backbone.is_some() {
        return Ok(model::open(model)?.config.img_size);
    }
    let unnamed = Source {
        config: None,
        ..source.clone()
    };
    model::check_unnamed(&unnamed, false)?;
    if let Some(path) = &source.config {
        let config = Config::from_json(&read_text(path)?);
        return Ok(config.map_err(|error| error.at(path.display()))?.img_size);
    }
    let family = source.arch.map(|family| family.config().img_size);
    Ok(family.unwrap_or([DEFAULT_IMG_SIZE; 2]))
}
