//! A picture's way to the tensor that a model reads.

use aim_web::ErrorKind;
use aim_web::image::{MAX_PIXELS, Preprocessor, decode, decode_upright};
use libfuzzer_sys::Corpus;

use crate::error::check;
use crate::time::watch;

/// Small, so that most of the time goes to decoders.
const SIZE: usize = 7;

/// Decodes a picture that begins with one of `magic`, and makes a model's input of it.
///
/// # Panics
/// If that is not what it has to be.
pub fn run(bytes: &[u8], magic: &[&[u8]]) -> Corpus {
    let _watch = watch();
    if !magic.iter().any(|magic| bytes.starts_with(magic)) {
        return Corpus::Reject;
    }
    let picture = match decode(bytes) {
        Ok(picture) => picture,
        Err(error) => {
            check(&error);
            assert_eq!(error.kind(), ErrorKind::Image, "{error}");
            return Corpus::Keep;
        }
    };
    let (width, height) = picture.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    assert!((1..=MAX_PIXELS).contains(&pixels));
    assert_eq!(picture.as_raw().len() as u64, pixels * 3);
    let preprocessor = Preprocessor::new(SIZE).expect("it is a size");
    let tensor = preprocessor.tensor(&picture);
    assert_eq!(tensor.len(), 3 * SIZE * SIZE);
    assert!(tensor.iter().all(|value| (-3.0..3.0).contains(value)));

    let upright = decode_upright(bytes).expect("the same picture");
    let turned = upright.dimensions();
    assert!(turned == (width, height) || turned == (height, width));
    Corpus::Keep
}
