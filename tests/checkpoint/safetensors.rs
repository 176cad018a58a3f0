//! The safetensors header reader and the decoder, held against the safetensors crate.

use std::collections::HashMap;
use std::io::Cursor;

use crate::read;
use aim_web::ErrorKind;
use aim_web::weights::checkpoint::content::Content;
use aim_web::weights::checkpoint::dtype::{Decoder, Dtype};
use aim_web::weights::checkpoint::safetensors::{Header, MAX_HEADER};
use aim_web::weights::open_reader;
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};

/// A file with this header, padded as given, and `data` bytes of zeros.
fn file(json: &str, data: usize) -> Vec<u8> {
    let n = json.len() as u64;
    [&n.to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat()
}

fn parse(bytes: &[u8]) -> aim_web::Result<Header> {
    Header::parse(bytes, bytes.len() as u64)
}

/// We refuse with `cause`, and whatever we accept the crate accepts.
#[track_caller]
fn refused(json: &str, data: usize, cause: &str) {
    let Err(error) = parse(&file(json, data)) else {
        panic!("{json}: was read");
    };
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(
        message.contains(cause) && !message.contains('\n'),
        "{message}"
    );
}

#[test]
fn headers_that_break_the_format() {
    let w = |fields: &str| format!(r#"{{"w":{{{fields}}}}}"#);
    let ok = r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#;
    assert_eq!(parse(&file(&w(ok), 8)).unwrap().tensors()[0].shape, [2]);
    refused(&w(ok), 9, "1 bytes after the last tensor");
    refused(
        &w(ok),
        7,
        "tensor w: ends 8 bytes into the data, past the end",
    );
    refused(&(w(ok) + "}"), 8, "trailing characters");
    refused(&(w(ok) + "\0"), 8, "trailing characters");
    refused(&format!(" {}", w(ok)), 8, "does not begin with `{`");
    refused("[]", 0, "does not begin with `{`");
    refused(&w(&format!("{ok},{ok}")), 8, "duplicate field");
    refused(
        &format!(r#"{{"w":{{{ok}}},"w":{{{ok}}}}}"#),
        8,
        "w comes twice",
    );
    refused(
        &format!(r#"{{"w":{{{ok}}},"\u0077":{{{ok}}}}}"#),
        8,
        "w comes twice",
    );
    for (fields, cause) in [
        (
            r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#,
            "tensor w: F32 of shape [2] takes 8 bytes",
        ),
        (
            r#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#,
            "takes 8 bytes",
        ),
        (
            r#""dtype":"F32","shape":[2],"data_offsets":[4,12]"#,
            "leave a hole",
        ),
        (
            r#""dtype":"F32","shape":[2],"data_offsets":[0]"#,
            "tensor w: invalid length",
        ),
        (
            r#""dtype":"F32","shape":[2],"data_offsets":[0,8,9]"#,
            "tensor w: ",
        ),
        (
            r#""dtype":"F32","shape":[2.0],"data_offsets":[0,8]"#,
            "floating point",
        ),
        (
            r#""dtype":"F32","shape":[2e0],"data_offsets":[0,8]"#,
            "floating point",
        ),
        (
            r#""dtype":"F32","shape":["2"],"data_offsets":[0,8]"#,
            "tensor w: ",
        ),
        (
            r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#,
            "tensor w: ",
        ),
        (
            r#""dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]"#,
            "tensor w: ",
        ),
        (
            r#""dtype":"F32","shape":2,"data_offsets":[0,8]"#,
            "tensor w: ",
        ),
        (
            r#""dtype":"F32","shape":null,"data_offsets":[0,8]"#,
            "tensor w: ",
        ),
        (
            r#""dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]"#,
            "tensor w: ",
        ),
        (
            r#""dtype":"F32","shape":[9223372036854775807,2,2],"data_offsets":[0,8]"#,
            "impossible size",
        ),
        (
            r#""dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]"#,
            "impossible size",
        ),
        (
            r#""dtype":"F32","shape":[4611686018427387903],"data_offsets":[0,18446744073709551612]"#,
            "impossible size",
        ),
        (
            r#""dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]"#,
            "past the end",
        ),
        (
            r#""dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]"#,
            "leave a hole",
        ),
        (
            r#""dtype":"F4","shape":[3],"data_offsets":[0,1]"#,
            "impossible size",
        ),
        (
            r#""dtype":"f32","shape":[2],"data_offsets":[0,8]"#,
            "unknown dtype f32",
        ),
        (
            r#""dtype":"F32\n","shape":[2],"data_offsets":[0,8]"#,
            "unknown dtype F32\\u{a}",
        ),
        (
            r#""dtype":7,"shape":[2],"data_offsets":[0,8]"#,
            "tensor w: ",
        ),
        (
            r#""shape":[2],"data_offsets":[0,8]"#,
            "missing field `dtype`",
        ),
        (
            r#""dtype":"F32","data_offsets":[0,8]"#,
            "missing field `shape`",
        ),
        (
            r#""dtype":"F32","shape":[2]"#,
            "missing field `data_offsets`",
        ),
    ] {
        refused(&w(fields), 8, cause);
    }
    let dims = vec!["1"; 65].join(",");
    refused(
        &w(&format!(
            r#""dtype":"U8","shape":[{dims}],"data_offsets":[0,1]"#
        )),
        1,
        "64 dimensions",
    );
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{b}}}}}"#
        )
    };
    refused(
        &two("[0,4]", "[2,6]"),
        8,
        "tensor b: its offsets 2 to 6 overlap",
    );
    refused(&two("[0,4]", "[0,4]"), 8, "overlap");
    refused(&two("[0,4]", "[6,10]"), 10, "leave a hole");
    let swapped = parse(&file(&two("[4,8]", "[0,4]"), 8)).unwrap();
    assert_eq!(swapped.tensors()[0].name, "b");
    assert_eq!(swapped.range(0).unwrap().start, swapped.data_start());
    assert_eq!(swapped.range(2), None);

    let meta = |value: &str| format!(r#"{{"__metadata__":{value},"w":{{{ok}}}}}"#);
    let read = parse(&file(&meta(r#"{"format":"pt","x":""}"#), 8)).unwrap();
    assert_eq!(read.format(), Some("pt"));
    for value in [r#"{"format":1}"#, r#"{"a":{"b":"c"}}"#, "[]", "7", r#""x""#] {
        refused(&meta(value), 8, "header is broken");
    }
    refused(r#"{"__metadata__":{},"__metadata__":{}}"#, 0, "twice");
    let many: Vec<String> = (0..=100_000).map(|i| format!("\"{i}\":\"\"")).collect();
    refused(
        &meta(&format!("{{{}}}", many.join(","))),
        8,
        "too many texts",
    );

    for open in ["[", "{\"a\":", "{\"a\":{\"b\":[", "{\"a\":{\"x\":["] {
        let deep = format!("{{\"w\":{}", open.repeat(100_000));
        refused(&deep, 0, "header is broken");
    }
    refused("{\"\\ud800\":{}}", 0, "header is broken");
    // No text, also where nobody reads it.
    for header in [
        &b"{\"\xff\xfe\":{}}  "[..],
        b"{\"w\":{\"dtype\":\"F32\",\"other\":\"I\x916\",\"shape\":[0],\"data_offsets\":[0,0]}}",
    ] {
        let len = (header.len() as u64).to_le_bytes();
        let error = parse(&[&len[..], header].concat()).unwrap_err();
        assert!(error.to_string().contains("utf-8"), "{error}");
    }
}

#[test]
fn a_stream_asks_for_what_it_needs() {
    let whole = file(
        r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        8,
    );
    let len = whole.len() as u64;
    let end = whole.len() - 8;
    for have in 0..whole.len() {
        let needed = Header::needed(&whole[..have], len).unwrap();
        assert_eq!(needed, if have < 8 { 8 } else { end });
        assert_eq!(
            Header::parse(&whole[..have], len).is_ok(),
            have >= end,
            "{have}"
        );
    }
    // A length whose bytes look like something else.
    for n in [u64::from(b'<'), 0x0280, 0x000b_8b1f] {
        assert_eq!(
            Header::needed(&n.to_le_bytes(), 1 << 30).unwrap() as u64,
            n + 8
        );
    }
    for n in [0, MAX_HEADER + 1, 1 << 60, u64::MAX, 993] {
        assert!(Header::needed(&n.to_le_bytes(), 1000).is_err());
    }
    assert!(Header::needed(&[1, 0, 0], 3).is_err());
}

#[test]
fn other_files_are_known_by_their_content() {
    let says = |first: &[u8], what: &str| {
        let Content::Other(text) = Content::of(first, 1 << 20) else {
            panic!("{what} is not known");
        };
        assert!(text.contains(what), "{text}");
        let error = open_reader(Cursor::new(first.to_vec()), "x.bin").err();
        assert!(error.unwrap().to_string().contains(what));
    };
    says(b"<!DOCTYPE html><html>", "HTML");
    says(b"\xef\xbb\xbf\n <?xml version=\"1.0\"?>", "HTML");
    says(
        b"version https://git-lfs.github.com/spec/v1\noid",
        "git-lfs",
    );
    says(b"version ", "git-lfs");
    says(b"\x1f\x8b\x08\x08aaaabcd", "gzip");
    says(b"GGUF\x03\0\0\0\x01\0", "GGUF");
    says(b"\x89HDF\r\n\x1a\n\0", "HDF5");
    says(b"\x93NUMPY\x01\0v\0", "NumPy");
    says(b"{\"error\":\"Not found\"}", "JSON");
    says(b"Entry not found\n", "a text");
    says(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8", "before PyTorch 1.6");
    says(b"PK\x05\x06\0\0\0\0\0\0", "empty zip");
    assert_eq!(
        Content::of(b"PK\x03\x04\0\0\x08\x08\0\0", 100),
        Content::Zip
    );
    assert!(Header::needed(b"PK\x03\x04\0\0\x08\x08\0\0", 100).is_err());
    for bytes in [
        &b""[..],
        b"x",
        b"\0\0\0",
        b"\0\0\0\0\0\0\0\0\0",
        &[0xff; 600],
    ] {
        assert!(open_reader(Cursor::new(bytes.to_vec()), "x.bin").is_err());
    }
}

#[test]
fn the_decoder_stops_at_what_is_no_number() {
    let check = |dtype, bytes: &[u8], cause: &str| {
        let mut out = Vec::new();
        let error = Decoder::new(dtype)
            .unwrap()
            .push(bytes, &mut out)
            .unwrap_err();
        assert!(error.to_string().contains(cause), "{error}");
    };
    let mut many = vec![0; 4 * 10_000];
    many[4 * 9_000..4 * 9_001].copy_from_slice(&f32::NAN.to_le_bytes());
    check(Dtype::F32, &many, "element 9000 is not a number");
    check(
        Dtype::F32,
        &f32::NEG_INFINITY.to_le_bytes(),
        "element 0 is infinite",
    );
    check(
        Dtype::F64,
        &1e300_f64.to_le_bytes(),
        "element 0 is infinite",
    );
    check(Dtype::F16, &[0, 0, 0, 0x7c], "element 1 is infinite");
    check(Dtype::Bf16, &[0xc0, 0x7f], "not a number");
    assert!(Decoder::new(Dtype::I64).is_err());
    let mut decoder = Decoder::new(Dtype::F32).unwrap();
    decoder.push(&[0; 7], &mut Vec::new()).unwrap();
    assert!(
        decoder
            .finish()
            .unwrap_err()
            .to_string()
            .contains("inside element 1")
    );
}

const DTYPES: [(safetensors::Dtype, usize); 12] = [
    (safetensors::Dtype::BOOL, 1),
    (safetensors::Dtype::U8, 1),
    (safetensors::Dtype::I8, 1),
    (safetensors::Dtype::F8_E4M3, 1),
    (safetensors::Dtype::I16, 2),
    (safetensors::Dtype::F16, 2),
    (safetensors::Dtype::BF16, 2),
    (safetensors::Dtype::F32, 4),
    (safetensors::Dtype::U32, 4),
    (safetensors::Dtype::C64, 8),
    (safetensors::Dtype::F64, 8),
    (safetensors::Dtype::I64, 8),
];

type Tensors = HashMap<String, (usize, Vec<usize>, u8)>;

fn tensors() -> impl Strategy<Value = Tensors> {
    let tensor = (
        0..DTYPES.len(),
        prop::collection::vec(0..5_usize, 0..4),
        any::<u8>(),
    );
    prop::collection::hash_map("[a-z0-9._\"\\\\é\n]{0,12}", tensor, 0..6)
}

/// What the crate writes of them.
fn write(tensors: &Tensors, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let datas: Vec<(_, _, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let len = tensor.1.iter().product::<usize>() * DTYPES[tensor.0].1;
            let data = (0..len).map(|i| tensor.2.wrapping_add(i as u8)).collect();
            (name, tensor, data)
        })
        .collect();
    let views = datas.iter().map(|(name, (dtype, shape, _), data)| {
        let view = TensorView::new(DTYPES[*dtype].0, shape.clone(), data).unwrap();
        (name.as_str(), view)
    });
    serialize(views, metadata).unwrap()
}

/// Whatever we accept, the crate accepts, and reads the same.
fn agree(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let Ok(ours) = parse(bytes) else {
        return Ok(false);
    };
    let theirs = SafeTensors::deserialize(bytes)
        .map_err(|error| TestCaseError::fail(format!("the crate refuses: {error}")))?;
    prop_assert_eq!(ours.tensors().len(), theirs.len());
    for (index, info) in ours.tensors().iter().enumerate() {
        let view = theirs.tensor(&info.name).unwrap();
        prop_assert_eq!(&info.shape, view.shape());
        prop_assert_eq!(info.dtype.name(), view.dtype().to_string());
        let range = ours.range(index).unwrap();
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        prop_assert_eq!(&bytes[range], view.data());
    }
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_crate_writes_is_read_the_same(tensors in tensors(), metadata in any::<bool>()) {
        let metadata = metadata.then(|| HashMap::from([("format".to_owned(), "pt".to_owned())]));
        let bytes = write(&tensors, metadata.clone());
        prop_assert!(agree(&bytes)?);
        let header = parse(&bytes).unwrap();
        prop_assert_eq!(header.format(), metadata.map(|_| "pt"));
        let mut file = open_reader(Cursor::new(bytes.clone()), "x").unwrap();
        for index in 0..tensors.len() {
            let mut data = Vec::new();
            file.read(index, &mut |piece| { data.extend_from_slice(piece); Ok(()) }).unwrap();
            let name = &file.tensors()[index].name;
            prop_assert_eq!(&data[..], SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data());
        }
    }

    #[test]
    fn edited_files_are_never_read_where_the_crate_refuses(
        tensors in tensors(),
        edits in prop::collection::vec(
            (any::<u16>(), prop::sample::select(vec![
                "0", "1", "9", "-", ".", "e3", ",", "[", "]", "{", "}", ":", "\"", "\\", " ", "\0",
                "18446744073709551615", "4611686018427387904", "\"__metadata__\":{},", "null", "\u{e9}",
                "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},",
            ]), 0..3_usize),
            1..4,
        ),
        fix in any::<bool>(),
    ) {
        let bytes = write(&tensors, None);
        let n = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let mut json = bytes[8..8 + n].to_vec();
        for (place, text, remove) in edits {
            let at = json.len() * usize::from(place) / (1 << 16);
            let end = json.len().min(at + remove);
            json.splice(at..end, text.bytes());
        }
        // With the length corrected the edit is seen by the JSON reader.
        let len = if fix { json.len() } else { n } as u64;
        agree(&[&len.to_le_bytes()[..], &json, &bytes[8 + n..]].concat())?;
    }

    #[test]
    fn damaged_files_are_never_read_where_the_crate_refuses(
        place in any::<u16>(), value in any::<u8>(), cut in 0..20_usize,
    ) {
        for file in ["ok_plain", "ok_f16", "ok_bf16", "int_weight"] {
            let mut bytes = read(&format!("{file}.safetensors"));
            let at = bytes.len() * usize::from(place) / (1 << 16);
            bytes[at] = value;
            agree(&bytes)?;
            bytes.truncate(bytes.len() - cut);
            agree(&bytes)?;
        }
    }

    #[test]
    fn pieces_of_any_length_decode_the_same(
        values in prop::collection::vec(any::<u16>(), 0..200),
        cuts in prop::collection::vec(0..9_usize, 1..20),
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64]),
    ) {
        let floats: Vec<f32> = values
            .iter()
            .map(|bits| half::bf16::from_bits(*bits))
            .map(|x| if dtype == Dtype::F16 { half::f16::from_f32(x.to_f32()).to_f32() } else { x.to_f32() })
            .filter(|x| x.is_finite())
            .collect();
        let bytes: Vec<u8> = floats.iter().flat_map(|x| match dtype {
            Dtype::F16 => half::f16::from_f32(*x).to_le_bytes().to_vec(),
            Dtype::Bf16 => half::bf16::from_f32(*x).to_le_bytes().to_vec(),
            Dtype::F32 => x.to_le_bytes().to_vec(),
            _ => f64::from(*x).to_le_bytes().to_vec(),
        }).collect();
        let mut decoder = Decoder::new(dtype).unwrap();
        let mut out = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts {
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            decoder.push(piece, &mut out).unwrap();
            rest = more;
        }
        decoder.push(rest, &mut out).unwrap();
        prop_assert_eq!(decoder.finish().unwrap(), floats.len() as u64);
        prop_assert_eq!(out, floats);
    }

    #[test]
    fn doubles_round_to_nearest_even(bits in any::<u64>()) {
        let double = f64::from_bits(bits);
        let mut out = Vec::new();
        let done = Decoder::new(Dtype::F64).unwrap().push(&double.to_le_bytes(), &mut out);
        prop_assert_eq!(done.is_ok(), (double as f32).is_finite());
        if done.is_ok() {
            prop_assert_eq!(out[0].to_bits(), (double as f32).to_bits());
        }
    }
}
