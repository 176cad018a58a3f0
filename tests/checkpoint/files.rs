//! The good, broken and hostile checkpoints of `tests/bad`, at the level of the readers.
//!
//! Whether names, shapes and types fit a model is the loader's question: the files that are wrong
//! only in that must read well here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::{GOOD_PTH, path};
use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::{Error, ErrorKind};

/// Shape and values of every float tensor.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn load(file: &str) -> Result<Tensors, Error> {
    let mut checkpoint = aim_web::weights::open(&path(file))?;
    let infos = checkpoint.tensors().to_vec();
    let mut tensors = Tensors::new();
    for (index, info) in infos.into_iter().enumerate() {
        if info.dtype.is_float() {
            let values = checkpoint.read_f32(index)?;
            tensors.insert(info.name, (info.shape, values));
        } else {
            checkpoint.read(index, &mut |_| Ok(()))?;
        }
    }
    Ok(tensors)
}

/// Opens the file and demands a clear error in one line that names the file and `cause`.
fn refused(file: &str, kind: ErrorKind, cause: &str) {
    let start = Instant::now();
    let Err(error) = load(file) else {
        panic!("{file} was read");
    };
    let message = error.to_string();
    assert!(message.contains(file), "{message}");
    assert!(message.contains(cause), "{message}");
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(error.kind(), kind, "{message}");
    assert!(start.elapsed() < Duration::from_secs(2), "{file} took long");
}

#[test]
fn the_same_weights_in_every_container() {
    let plain = load("ok_plain.safetensors").unwrap();
    assert_eq!(plain.len(), 20);
    assert_eq!(plain["head.linear.weight"].0, [10, 4]);
    for file in GOOD_PTH.into_iter().chain(["is_a_pth.safetensors"]) {
        // Values are finite, so equal means the same bits but for the sign of zero.
        assert!(load(file).unwrap() == plain, "{file}");
    }
}

#[test]
fn short_floats_differ_by_their_rounding() {
    let plain = load("ok_plain.safetensors").unwrap();
    // Half a unit in the last place.
    for (file, error) in [
        ("ok_f16.safetensors", 2_f32.powi(-11)),
        ("ok_bf16.safetensors", 2_f32.powi(-8)),
    ] {
        let short = load(file).unwrap();
        assert!(short.keys().eq(plain.keys()));
        for (name, (shape, values)) in &plain {
            assert_eq!(&short[name].0, shape);
            for (a, b) in values.iter().zip(&short[name].1) {
                assert!(
                    (a - b).abs() <= error * a.abs() + 1e-7,
                    "{file} {name} {a} {b}"
                );
            }
        }
    }
}

#[test]
fn files_that_only_a_model_can_refuse_are_read() {
    for file in [
        "missing_tensor.safetensors",
        "extra_tensor.pth",
        "transposed_shape.pth",
        "mlx_layout.safetensors",
        "two_queries.safetensors",
        "int_weight.safetensors",
    ] {
        load(file).unwrap_or_else(|error| panic!("{error}"));
    }
    let mut checkpoint = aim_web::weights::open(&path("int_weight.safetensors")).unwrap();
    let index = checkpoint
        .tensors()
        .iter()
        .position(|t| t.dtype != Dtype::F32 && t.shape.len() == 2)
        .unwrap();
    let error = checkpoint.read_f32(index).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error
            .to_string()
            .contains("int_weight.safetensors: tensor "),
        "{error}"
    );
}

#[test]
fn files_that_are_no_checkpoints() {
    use ErrorKind::Format;
    refused("html.pth", Format, "HTML");
    refused("html.safetensors", Format, "HTML");
    refused("lfs_pointer.safetensors", Format, "git-lfs pointer");
    refused("empty.safetensors", Format, "empty");
    refused("raw_pickle.pth", Format, "before PyTorch 1.6");
    refused("config_ok.json", Format, "JSON");
    refused("config_not_json.json", Format, "config_not_json.json");
    refused("absent.pth", ErrorKind::NotFound, "can't be opened");
    refused("../bad", ErrorKind::NotFound, "is a directory");
}

#[test]
fn broken_archives_and_pickles() {
    use ErrorKind::{Format, Unsupported};
    refused("truncated_tail.pth", Format, "cut or damaged");
    refused(
        "reduce_os_system.pth",
        Unsupported,
        "refused to call posix.system",
    );
    refused(
        "reduce_eval.pth",
        Unsupported,
        "refused to call builtins.eval",
    );
    refused("pickle_deep.pth", Format, "holds a tuple, not a state dict");
    refused("pickle_memo_missing.pth", Format, "memo slot 7");
    refused("no_pkl.pth", Format, "data.pkl");
    refused(
        "storage_short.pth",
        Format,
        "data/0 holds 188 bytes, its storage is 48 F32",
    );
    refused(
        "zip_bomb.pth",
        Format,
        "data/0 holds 50331648 bytes, its storage is 48 F32",
    );
    refused("tensor_offset_oob.pth", Format, "tensor head.cls_token");
    refused("tensor_stride_huge.pth", Format, "tensor head.cls_token");
    refused(
        "tensor_storage_numel_huge.pth",
        Format,
        "tensor head.cls_token",
    );
    let marker = std::env::temp_dir().join("aim_pickle_was_executed");
    assert!(!marker.exists());
}

#[test]
fn broken_safetensors() {
    use ErrorKind::Format;
    refused(
        "header_len_beyond.safetensors",
        Format,
        "passes the end of the file",
    );
    refused("header_2_60.safetensors", Format, "over the limit");
    refused("header_len_zero.safetensors", Format, "length 0");
    refused("json_deep.safetensors", Format, "header");
    refused("overlap.safetensors", Format, "head.linear.weight");
    refused("offset_huge.safetensors", Format, "head.linear.weight");
    refused("offset_float.safetensors", Format, "floating point");
    refused("shape_overflow.safetensors", Format, "impossible size");
    refused("dtype_unknown.safetensors", Format, "Q9");
    refused("claims_2_60_bytes.safetensors", Format, "tensor ");
    refused(
        "truncated_data.safetensors",
        Format,
        "past the end of the file",
    );
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    refused(
        "nan_weight.safetensors",
        ErrorKind::Format,
        "fc1.weight: element",
    );
    refused("inf_weight.safetensors", ErrorKind::Format, "is infinite");
}

#[test]
fn there_is_no_tensor_past_the_last() {
    for file in ["ok_plain.pth", "ok_plain.safetensors"] {
        let mut checkpoint = aim_web::weights::open(&path(file)).unwrap();
        let index = checkpoint.tensors().len();
        assert_eq!(
            checkpoint.read_f32(index).unwrap_err().kind(),
            ErrorKind::Option
        );
        let read = checkpoint.read(index, &mut |_| Ok(()));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Option);
    }
}
