# workerd serve config.capnp, in this folder, after `npm install` and the build.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .worker),
    # Models may come from anywhere, this machine included.
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = "*:8787", http = (), service = "main")],
);

const worker :Workerd.Worker = (
  compatibilityDate = "2026-01-01",
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "aim-web/dist/workerd.js", esModule = embed "../../dist/workerd.js"),
    (name = "aim-web/wasm/cpu/aim_web.js", esModule = embed "../../wasm/cpu/aim_web.js"),
    (name = "aim-web/wasm/cpu/aim_web_bg.wasm", wasm = embed "../../wasm/cpu/aim_web_bg.wasm"),
    # Decodes PNG, WebP, GIF and BMP; JPEG needs it not.
    (name = "aim-web/wasm/pictures/aim_web_bg.wasm", wasm = embed "../../wasm/pictures/aim_web_bg.wasm"),
    (name = "aim-web/models/aim-tiny/config.json", text = embed "../../models/aim-tiny/config.json"),
    (name = "aim-web/models/aim-tiny/labels.json", text = embed "../../models/aim-tiny/labels.json"),
    (name = "aim-web/models/aim-tiny/model-00001-of-00001.safetensors", data = embed "../../models/aim-tiny/model-00001-of-00001.safetensors"),
  ],
);
