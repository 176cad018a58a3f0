//! `config.json` and `labels.json`, and what they lead to before a weight is read.
#![no_main]

use aim_web::config::{Config, ProbeLayers};
use aim_web::labels::Labels;
use aim_web::precision::Precision;
use aim_web::probe::file::Trunk;
use aim_web::weights::inventory::Inventory;
use aim_web::{device::Device, engine};
use aim_web_fuzz::error::checked;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _watch = aim_web_fuzz::time::watch();
    let _ = checked(Trunk::of_config(text));
    let Some(config) = checked(Config::from_json(text)) else {
        assert!(Config::of_repository(text, "apple/aim-600M").is_err());
        let _ = checked(Labels::from_json(text, 2));
        return;
    };
    assert_eq!(
        Config::from_json(&config.to_json()).ok().as_ref(),
        Some(&config)
    );
    let _ = checked(Config::of_repository(text, "apple/aim-600M"));
    let _ = checked(Labels::from_json(text, config.num_classes));
    assert!(config.blocks_to_run() <= config.num_blocks);
    let [height, width] = config.img_size;
    assert!(checked(config.grid(height, width)).is_some());
    for layers in [ProbeLayers::Best, ProbeLayers::Last] {
        assert!(checked(config.clone().with_probe_layers(&layers)).is_some());
    }
    for precision in [Precision::Auto, Precision::Q4] {
        let _ = checked(engine::weight_format(
            &config,
            config.blocks_to_run(),
            precision,
            &Device::Cpu,
        ));
    }
    assert!(!Inventory::new(&config).specs().is_empty());
});
