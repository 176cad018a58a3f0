//! `config.json` in every form the hub has, and what is refused.

use aim_web::ErrorKind;
use aim_web::config::{Config, Family, ProbeLayers};
use aim_web::labels::Labels;
use aim_web::quant::Scheme;
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(config: &Value) -> aim_web::Result<Config> {
    Config::from_json(&config.to_string())
}

/// A configuration of the hub, with some keys replaced.
fn with(changes: Value) -> Value {
    let mut config = json!({
        "embed_dim": 128, "img_size": 224, "num_blocks": 8, "num_channels": 3, "num_classes": 1000,
        "num_heads": 2, "patch_size": 14, "probe_layers": [1, 2],
    });
    let (Value::Object(all), Value::Object(changes)) = (&mut config, changes) else {
        panic!("both are maps")
    };
    for (key, value) in changes {
        if value.is_null() {
            all.remove(&key);
        } else {
            all.insert(key, value);
        }
    }
    config
}

#[test]
fn numbers_pairs_and_lists_mean_the_same() {
    let plain = parse(&with(json!({}))).expect("it is one");
    let pairs = parse(&with(
        json!({ "img_size": [224, 224], "patch_size": [14, 14] }),
    ));
    assert_eq!(pairs.expect("it is one"), plain);
    let last = parse(&with(json!({ "probe_layers": 3 }))).expect("it is one");
    assert_eq!(last.probe_layers, [5, 6, 7]);
    let oblong = parse(&with(
        json!({ "img_size": [140, 224], "patch_size": [14, 16] }),
    ));
    assert_eq!(
        oblong.expect("it is one").grid(140, 224).ok(),
        Some([10, 14])
    );
}

#[test]
fn what_the_hub_leaves_out_is_the_reference_default() {
    let config =
        parse(&json!({ "embed_dim": 64, "num_blocks": 8, "num_heads": 1, "model_type": "aim" }));
    let config = config.expect("it is one");
    assert_eq!((config.img_size, config.patch_size), ([224, 224], [14, 14]));
    assert_eq!((config.num_channels, config.num_classes), (3, 1000));
    assert_eq!(config.probe_layers, [2, 3, 4, 5, 6, 7]);
}

#[test]
fn numbers_that_describe_no_model_are_refused() {
    for (changes, part) in [
        (json!({ "embed_dim": null }), "embed_dim"),
        (json!({ "embed_dim": "128" }), "128"),
        (json!({ "embed_dim": 0 }), "embed_dim"),
        (json!({ "embed_dim": -128 }), "-128"),
        (json!({ "embed_dim": 128.5 }), "128.5"),
        (json!({ "embed_dim": u64::MAX }), "embed_dim"),
        (json!({ "embed_dim": 130, "num_heads": 1 }), "multiple of 4"),
        (json!({ "num_heads": 3 }), "3 heads"),
        (json!({ "num_heads": 0 }), "num_heads"),
        (json!({ "num_blocks": 0 }), "num_blocks"),
        (
            json!({ "num_blocks": 1_000_000_000_u64, "probe_layers": 1_000_000_000_u64 }),
            "1000000000",
        ),
        (json!({ "num_classes": u32::MAX }), "num_classes"),
        (json!({ "patch_size": 0 }), "patch_size"),
        (json!({ "patch_size": [14, 14, 14] }), "pair"),
        (json!({ "patch_size": 256 }), "patch_size"),
        (json!({ "img_size": [] }), "pair"),
        (json!({ "probe_layers": [] }), "probe_layers"),
        (json!({ "probe_layers": 0 }), "probe_layers"),
        (json!({ "probe_layers": 9 }), "last 9"),
        (json!({ "probe_layers": [8] }), "block 8"),
        (json!({ "probe_layers": [-1] }), "probe_layers"),
        (json!({ "probe_layers": "best" }), "probe_layers"),
    ] {
        let error = parse(&with(changes.clone())).expect_err(&changes.to_string());
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().contains(part), "{changes}: {error}");
    }
    for text in ["", "[]", "null", "{", "<html>", &"[".repeat(100_000)] {
        Config::from_json(text).expect_err("it is no configuration");
    }
}

#[test]
fn the_family_is_the_papers() {
    for (name, dim, blocks, heads, best) in [
        ("aim-600M", 1536, 24, 12, 14..=19),
        ("aim-1B", 2048, 24, 16, 12..=17),
        ("apple/aim-3B", 3072, 24, 24, 12..=17),
        ("apple/aim-7B", 4096, 32, 32, 14..=19),
    ] {
        let family: Family = name.parse().expect("it is one");
        let config = family.config();
        assert_eq!(
            (config.embed_dim, config.num_blocks, config.num_heads),
            (dim, blocks, heads)
        );
        assert_eq!((config.head_dim(), config.mlp_hidden_dim()), (128, 4 * dim));
        assert_eq!(config.probe_layers, best.clone().collect::<Vec<_>>());
        assert_eq!(config.blocks_to_run(), best.end() + 1);
        assert_eq!(Family::of(&config), Some(family));

        let last = config
            .clone()
            .with_probe_layers(&ProbeLayers::Last)
            .expect("it has six");
        assert_eq!(last.probe_layers, (blocks - 6..blocks).collect::<Vec<_>>());
        let best_again = last
            .with_probe_layers(&ProbeLayers::Best)
            .expect("it has them");
        assert_eq!(best_again, config);
    }
    "aim-2B".parse::<Family>().expect_err("there is none");
}

#[test]
fn best_of_another_model_is_its_own_list() {
    let config = parse(&with(json!({}))).expect("it is one");
    let best = config.clone().with_probe_layers(&ProbeLayers::Best);
    assert_eq!(best.expect("it has them"), config);
    let list = config
        .clone()
        .with_probe_layers(&ProbeLayers::List(vec![3, 0, 3]));
    assert_eq!(list.expect("it has them").probe_layers, [3, 0, 3]);
    config
        .with_probe_layers(&ProbeLayers::List(vec![8]))
        .expect_err("there is no block 8");
}

#[test]
fn labels_come_as_a_list_or_as_a_map() {
    let list = Labels::from_json(r#"["a", "b"]"#, 2);
    let map = Labels::from_json(r#"{"id2label": {"1": "b", "0": "a"}, "x": 1}"#, 2);
    let (list, map) = (list.expect("labels"), map.expect("labels"));
    assert_eq!(list, map);
    assert_eq!(list.expect("there are some").names(), ["a", "b"]);
    assert_eq!(
        Labels::from_json(r#"{"embed_dim": 1}"#, 2).expect("none is fine"),
        None
    );
    for text in [
        r#"["a"]"#,
        r#"["a", 1]"#,
        "7",
        r#"{"id2label": {"0": "a", "2": "b"}}"#,
        r#"{"id2label": {"0": "a", "one": "b"}}"#,
        r#"{"id2label": {"0": "a", "00": "b"}}"#,
    ] {
        Labels::from_json(text, 2).expect_err(text);
    }
}

#[test]
fn models_without_labels_get_names() {
    let imagenet = Labels::unnamed(1000);
    assert_eq!(imagenet.get(0), Some("tench"));
    assert_eq!(imagenet.get(999), Some("toilet tissue"));
    assert_eq!(
        Labels::unnamed(3).names(),
        ["class 0", "class 1", "class 2"]
    );
}

proptest! {
    #[test]
    fn a_written_config_reads_back(
        heads in 1_usize..64,
        head_dim in 1_usize..32,
        blocks in 1_usize..64,
        classes in 1_usize..5000,
        patch in (1_usize..32, 1_usize..32),
        patches in (1_usize..20, 1_usize..20),
        probes in prop::collection::vec(0_usize..64, 1..8),
        scheme in prop::option::of((prop::sample::select(vec![4_usize, 8]), prop::sample::select(vec![32_usize, 64, 128]))),
    ) {
        let config = Config {
            img_size: [patch.0 * patches.0, patch.1 * patches.1],
            patch_size: [patch.0, patch.1],
            num_channels: 3,
            embed_dim: 4 * heads * head_dim,
            num_blocks: blocks,
            num_heads: heads,
            num_classes: classes,
            probe_layers: probes.into_iter().map(|layer| layer % blocks).collect(),
            quantization: scheme.map(|(bits, group)| Scheme::new(bits, group).expect("it is one")),
        };
        prop_assert_eq!(Config::from_json(&config.to_json()).expect("it is one"), config);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = Config::from_json(&text);
        let _ = Labels::from_json(&text, 3);
    }

    #[test]
    fn any_numbers_are_read_or_refused(
        dim in any::<i64>(), heads in any::<i64>(), blocks in any::<i64>(), probe in any::<i64>(),
    ) {
        let changes = json!({ "embed_dim": dim, "num_heads": heads, "num_blocks": blocks, "probe_layers": probe });
        if let Ok(config) = parse(&with(changes)) {
            prop_assert!(config.blocks_to_run() <= config.num_blocks);
            prop_assert_eq!(config.head_dim() * config.num_heads, config.embed_dim);
        }
    }

    #[test]
    fn grids_drop_the_remainder(height in 0_usize..2000, width in 0_usize..2000) {
        let config = parse(&with(json!({}))).expect("it is one");
        match config.grid(height, width) {
            Ok([rows, columns]) => {
                prop_assert!(rows > 0 && columns > 0);
                prop_assert!(rows * 14 <= height && height < (rows + 1) * 14);
                prop_assert!(columns * 14 <= width && width < (columns + 1) * 14);
            }
            Err(error) => {
                prop_assert!(height < 14 || width < 14);
                prop_assert_eq!(error.kind(), ErrorKind::Option);
            }
        }
    }
}
