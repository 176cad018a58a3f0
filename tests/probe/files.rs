//! Heads as files: read back, made smaller, and broken.

use aim_web::ErrorKind;
use aim_web::config::Config;
use aim_web::probe::compact::Compact;
use aim_web::probe::{HeadFile, HeadKind, Trunk};
use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::cases::{examples, file, train, trunk};

const HEADS: [HeadKind; 3] = [HeadKind::Mean, HeadKind::Linear, HeadKind::Attention];

fn trained(kind: HeadKind) -> HeadFile {
    file(train(&examples(&[6, 6, 6], 0.4), kind, 0).0, 3)
}

#[test]
fn a_file_is_read_as_it_was_written() {
    for kind in HEADS {
        let file = trained(kind);
        let bytes = file.to_bytes().unwrap();
        assert!(HeadFile::from_bytes(&bytes).unwrap() == file, "{kind}");
        // And by others.
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("head.k.weight").unwrap().shape(), [48, 48]);
        assert_eq!(
            tensors.tensor("head.linear.weight").unwrap().shape(),
            [3, 48]
        );
        // The folder's configuration is one of AIM, and names the trunk.
        let text = file.config_json();
        let config = Config::from_json(&text).unwrap();
        assert_eq!(config, file.config);
        assert_eq!(config.num_classes, 3);
        assert_eq!(Trunk::of_config(&text).unwrap(), Some(trunk()));
    }
}

#[test]
fn a_compact_file_is_the_same_function() {
    for kind in HEADS {
        let file = trained(kind);
        let bytes = file.to_compact_bytes().unwrap();
        let whole = file.to_bytes().unwrap();
        assert!(
            bytes.len() < whole.len() / 2,
            "{} of {}",
            bytes.len(),
            whole.len()
        );
        let compact = HeadFile::from_bytes(&bytes).unwrap();
        assert_eq!(compact.head.kind, kind);
        assert_eq!(
            (&compact.labels, &compact.trunk),
            (&file.labels, &file.trunk)
        );
        let x = super::cases::features(1, 77, 0.4);
        let logits = [&file, &compact].map(|file| super::trunk::logits(&file.head, &x));
        let largest = logits[0]
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        for (a, b) in logits[0].iter().zip(&logits[1]) {
            assert!((a - b).abs() < 4e-3 * largest, "{kind}: {logits:?}");
        }
    }
}

#[test]
fn a_compact_head_has_as_many_classes_as_a_head_has_channels() {
    let many = examples(&[2; 17], 0.1);
    let attention = train(&many, HeadKind::Attention, 0).0;
    let error = Compact::of(&attention).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Option);
    assert!(error.to_string().contains("at most 16 classes"), "{error}");
    Compact::of(&train(&many, HeadKind::Linear, 0).0).unwrap();
}

/// A compact file with no more numbers than it needs.
fn compact_of_channels(dim: usize) -> Vec<u8> {
    let mut file = trained(HeadKind::Linear);
    (file.config.embed_dim, file.config.num_heads) = (dim, dim / 128);
    file.config.num_classes = 2;
    let numbers = vec![0; 4 * dim];
    let view = |dtype, shape| TensorView::new(dtype, shape, &numbers).unwrap();
    let tensors = [
        ("compact.mean", view(Dtype::F32, vec![dim])),
        ("compact.linear", view(Dtype::F16, vec![2, 1, dim])),
    ];
    let metadata = [
        ("aim.config", file.config_json()),
        ("aim.labels", r#"["a", "b"]"#.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    safetensors::serialize(tensors, Some(metadata.into())).unwrap()
}

#[test]
fn a_small_file_asks_for_no_more_than_a_large_head() {
    let largest_released = compact_of_channels(4096);
    let head = HeadFile::from_bytes(&largest_released).unwrap().head;
    assert_eq!((head.dim(), head.k.len()), (4096, 4096 * 4096));
    let huge = compact_of_channels(1 << 14);
    assert!(huge.len() < 140_000);
    let read = HeadFile::from_bytes(&huge);
    // A head that was read is too long to be shown.
    let error = read.map(|file| file.head.dim()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("16384 channels"), "{error}");
    // What could not be read is not written.
    let mut head = train(&examples(&[2, 2], 0.1), HeadKind::Linear, 0).0;
    head.running_mean = vec![0.0; 1 << 14];
    let error = Compact::of(&head).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn another_trunk_is_refused() {
    let trunk = trunk();
    trunk.expect(&trunk.sha256).unwrap();
    let error = trunk.expect(&"f".repeat(64)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(
        error.to_string().contains("another trunk") && error.to_string().contains("user/trunk")
    );
}

#[test]
fn configurations_of_whole_models_name_no_trunk() {
    for text in ["{}", r#"{"trunk": "vit"}"#, r#"{"trunk": null}"#] {
        assert_eq!(Trunk::of_config(text).unwrap(), None, "{text}");
    }
    for text in [
        "[",
        r#"{"trunk": {}}"#,
        r#"{"trunk": {"name": "a", "sha256": "12"}}"#,
        r#"{"trunk": {"name": "", "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}}"#,
    ] {
        Trunk::of_config(text).unwrap_err();
    }
}

/// The file with another header text.
fn with_header(bytes: &[u8], change: impl Fn(String) -> String) -> Vec<u8> {
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = change(String::from_utf8(bytes[8..8 + len].to_vec()).unwrap());
    [
        &(text.len() as u64).to_le_bytes()[..],
        text.as_bytes(),
        &bytes[8 + len..],
    ]
    .concat()
}

#[test]
fn a_head_is_what_its_tensors_are() {
    for (kind, claimed, expected) in [
        (HeadKind::Attention, "auto", HeadKind::Attention),
        (HeadKind::Attention, "mean", HeadKind::Attention),
        (HeadKind::Attention, "other", HeadKind::Attention),
        (HeadKind::Linear, "mean", HeadKind::Mean),
    ] {
        let bytes = trained(kind).to_bytes().unwrap();
        let (from, to) = [&kind.to_string(), claimed]
            .map(|kind| format!("\\\"head\\\": \\\"{kind}\\\""))
            .into();
        let changed = with_header(&bytes, |text| {
            assert!(text.contains(&from), "{from} is not in {text}");
            text.replace(&from, &to)
        });
        let file = HeadFile::from_bytes(&changed).unwrap();
        assert_eq!(file.head.kind, expected, "{kind} as {claimed}");
        // Its attention is still there in fewer numbers.
        let compact = Compact::of(&file.head).unwrap();
        assert_eq!(!compact.queries.is_empty(), kind == HeadKind::Attention);
    }
}

#[test]
fn a_head_is_in_floats_whatever_its_trunk_was() {
    let file = trained(HeadKind::Linear);
    let bytes = with_header(&file.to_bytes().unwrap(), |text| {
        let quantization = r#"\"quantization\": {\"group_size\": 32, \"bits\": 4},"#;
        text.replacen(
            r#"\"embed_dim\""#,
            &format!(r#"{quantization} \"embed_dim\""#),
            1,
        )
    });
    let again = HeadFile::from_bytes(&bytes).unwrap();
    assert!(again == file);
    Config::from_json(&again.config_json()).unwrap();
    HeadFile::from_bytes(&again.to_compact_bytes().unwrap()).unwrap();
}

#[test]
fn what_is_no_head_is_refused() {
    let bytes = trained(HeadKind::Attention).to_bytes().unwrap();
    let change = |from: &'static str, to: &'static str| {
        let changed = with_header(&bytes, |text| {
            assert!(text.contains(from), "{from} is not in {text}");
            text.replacen(from, to, 1)
        });
        HeadFile::from_bytes(&changed)
    };
    for (from, to, says) in [
        ("head.k.weight", "head.q.weight", "head.k.weight is missing"),
        (
            "\"head.cls_token\"",
            "\"other\"",
            "head.cls_token is missing",
        ),
        ("aim.config", "aim.xonfig", "no aim.config"),
        ("aim.labels", "aim.xabels", "no aim.labels"),
        ("\\\"embed_dim\\\": 48", "\\\"embed_dim\\\": 96", "shape"),
        ("\\\"num_heads\\\": 3", "\\\"num_heads\\\": 5", "num_heads"),
        (
            "\\\"num_classes\\\": 3",
            "\\\"num_classes\\\": 4",
            "3 labels",
        ),
        ("\\\"trunk\\\"", "\\\"truck\\\"", "no trunk"),
        ("class 1", "class 0", ""),
    ] {
        match change(from, to) {
            Ok(_) => assert_eq!(says, "", "{from} -> {to}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Format, "{error}");
                assert!(error.to_string().contains(says), "{from} -> {to}: {error}");
            }
        }
    }
    let mut not_finite = bytes.clone();
    let at = not_finite.len() - 2;
    not_finite[at..].copy_from_slice(&half::f16::NAN.to_le_bytes());
    for broken in [
        b"".to_vec(),
        b"rubbish".to_vec(),
        vec![0; 500],
        bytes[..bytes.len() - 1].to_vec(),
        [&bytes[..], b"x"].concat(),
        not_finite,
    ] {
        let error = HeadFile::from_bytes(&broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_byte_that_changes_is_an_error_or_another_head(at in 0_usize..3000, to: u8) {
        let mut bytes = trained(HeadKind::Mean).to_compact_bytes().unwrap();
        let len = bytes.len();
        bytes[at % len] = to;
        // It ends, without a panic.
        let _ = HeadFile::from_bytes(&bytes);
    }
}
