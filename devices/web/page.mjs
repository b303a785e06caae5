// What happens inside the page, as in `devices/session.py` inside a child process: files are loaded in their runtimes and
// run on the inputs they are handed. device.py calls `edgedl(job)`, whose words are those of `Job` there.
//
// An inference is typed arrays in, typed arrays out, as in an app: copies to and from WebAssembly's or the GPU's memory
// are part of it.

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: globalThis.Float16Array, int8: Int8Array, uint8: Uint8Array,
  bool: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array,
  int64: BigInt64Array, uint64: BigUint64Array,
};

// --- the runtimes: load(job) once a page; open(bytes, file, job) → {invoke} ------------------------------------------

const litert = {
  async load(job) {
    const module = await import("@litertjs/core");
    await module.loadLiteRt("./litertjs-core/wasm/", {
      threads: job.target === "wasm-threads",
      jspi: job.target === "webgpu" && "Suspending" in WebAssembly, // ops that the GPU has not run on the CPU
    });
    return module;
  },
  async open(module, bytes, file, job) {
    const accelerator = job.target === "webgpu" ? "webgpu" : "wasm";
    const model = await module.loadAndCompile(bytes, {accelerator, cpuOptions: {numThreads: job.threads}});
    return {
      async invoke() {
        const tensors = file.inputs.map((input) => new module.Tensor(input.data, input.shape));
        try {
          const outputs = await model.run(tensors);
          tensors.push(...outputs);
          const values = [];
          for (const output of outputs) values.push(await output.data());
          return values;
        } finally {
          for (const tensor of tensors) tensor.delete();
        }
      },
    };
  },
};

const onnx = {
  async load(job) {
    const gpu = job.target === "webgpu";
    const module = await import(gpu ? "./onnxruntime-web/dist/ort.webgpu.min.mjs" : "./onnxruntime-web/dist/ort.wasm.min.mjs");
    module.env.wasm.wasmPaths = new URL("./onnxruntime-web/dist/", location.href).href;
    module.env.wasm.numThreads = job.threads;
    // Its WebAssembly starts with the first session, even with one that fails.
    await module.InferenceSession.create(new Uint8Array(1), {logSeverityLevel: 4}).catch(() => {});
    return module;
  },
  async open(module, bytes, file, job) {
    const session = await module.InferenceSession.create(bytes, {
      executionProviders: [job.target === "webgpu" ? "webgpu" : "wasm"],
      logSeverityLevel: job.task === "examine" ? 0 : 2,
    });
    return {
      async invoke() {
        const feeds = {};
        session.inputNames.forEach((name, index) => {
          const {dtype, data, shape} = file.inputs[index];
          feeds[name] = new module.Tensor(dtype, data, shape);
        });
        const outputs = await session.run(feeds);
        return Promise.all(session.outputNames.map((name) => outputs[name].getData(true)));
      },
    };
  },
};

const RUNTIMES = {tflite: litert, onnx};
const loaded = {}, runtime_us = {};

// --- one file ----------------------------------------------------------------------------------------------------------

async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: HTTP ${answer.status}`);
  return answer.arrayBuffer();
}

async function open(file, job) {
  const runtime = RUNTIMES[file.format];
  const cold = !(file.format in loaded); // the first in its runtime also pays for code that is compiled when first used
  if (cold) {
    const start = performance.now();
    loaded[file.format] = await runtime.load(job);
    runtime_us[file.format] = 1e3 * (performance.now() - start);
  }
  const values = await fetched(file.inputs_url);
  let offset = 0;
  const inputs = file.inputs.map(({dtype, shape}) => {
    const kind = ARRAYS[dtype];
    if (!kind) throw new Error(`an input of type ${dtype}, which no typed array holds`);
    const length = shape.reduce((a, b) => a * b, 1);
    const data = new kind(values.slice(offset, offset + length * kind.BYTES_PER_ELEMENT));
    offset += data.byteLength;
    return {dtype, shape, data};
  });
  const start = performance.now();
  const bytes = new Uint8Array(await fetched(file.url));
  const model = await runtime.open(loaded[file.format], bytes, {...file, inputs}, job);
  return {file, cold, load_us: 1e3 * (performance.now() - start), ...model};
}

// The error of a file: `examine` and `time` throw nothing else.
async function on(file, action) {
  try {
    return await action();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw {file: file.index, reason};
  }
}

// --- tasks -------------------------------------------------------------------------------------------------------------

async function about() {
  const adapter = navigator.gpu ? await navigator.gpu.requestAdapter({powerPreference: "high-performance"}) : null;
  const {vendor, architecture, device, description, isFallbackAdapter} = adapter?.info ?? {};
  let tick = Infinity, last = performance.now();
  for (const until = last + 50; last < until; ) {
    const now = performance.now();
    if (now > last) tick = Math.min(tick, now - last);
    last = now;
  }
  return {
    isolated: crossOriginIsolated, cores: navigator.hardwareConcurrency, tick_us: 1e3 * tick,
    adapter: adapter && {vendor, architecture, device, description, fallback: Boolean(isFallbackAdapter)},
  };
}

async function examine(job) {
  const [file] = job.files;
  return on(file, async () => {
    const model = await open(file, job);
    const start = performance.now();
    const arrays = await model.invoke();
    const first_us = 1e3 * (performance.now() - start);
    const outputs = arrays.map((array) => {
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      return {fnv1a: fnv1a(bytes), base64: base64(bytes)};
    });
    return {outputs, load_us: model.load_us, first_us};
  });
}

async function time(job) {
  const next = random(job.order_seed);
  const timers = [];
  for (const file of shuffled(job.files, next)) {
    timers.push(await on(file, async () => {
      const timer = {...(await open(file, job)), samples: 1, each: 1, warm_up: 0, fastest_us: Infinity, blocks_us: []};
      [timer.first_us] = await block(timer);
      return timer;
    }));
  }
  const ready = performance.now();
  await warmUp(timers, job, ready + 300 * job.seconds);
  const deadline = ready + 1e3 * job.seconds;
  for (let round = 0; round < job.max_rounds && (round === 0 || performance.now() < deadline); round++) {
    for (const timer of shuffled(timers, next)) timer.blocks_us.push(await on(timer.file, () => block(timer)));
  }
  const files = timers.map(({file, cold, load_us, first_us, warm_up, each, blocks_us}) => (
    {index: file.index, cold, load_us, first_us, warm_up, each, blocks_us}
  ));
  return {runtime_us, files};
}

// Warm-up: WebAssembly's kernels are compiled again, better, while they run. Blocks of all files are run until no file's
// median moves, or the time is up; how many inferences a sample has follows from the last.
async function warmUp(timers, job, until) {
  let before = timers.map((timer) => timer.first_us);
  while (performance.now() < until) {
    const now = [];
    for (const timer of timers) {
      const typical = median(await on(timer.file, () => block(timer)));
      timer.warm_up += timer.samples * timer.each;
      timer.fastest_us = Math.min(timer.fastest_us, typical);
      timer.each = Math.ceil(job.sample_us / timer.fastest_us);
      const samples = Math.round(job.block_us / (timer.each * timer.fastest_us));
      timer.samples = Math.min(job.block_samples, Math.max(1, samples));
      now.push(typical);
    }
    if (now.every((one, index) => Math.abs(one - before[index]) <= job.settled * before[index])) return;
    before = now;
  }
}

// Microseconds per inference, `samples` times: the mean of `each` in a row.
async function block({invoke, samples, each}) {
  await new Promise((resolve) => { // a turn of the event loop: the page's own work is done now
    const {port1, port2} = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(null);
  });
  const times = [];
  for (let sample = 0; sample < samples; sample++) {
    const start = performance.now();
    for (let i = 0; i < each; i++) await invoke();
    times.push((1e3 * (performance.now() - start)) / each);
  }
  return times;
}

// --- small things ------------------------------------------------------------------------------------------------------

function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

function random(seed) { // mulberry32
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(values, next) {
  const mixed = [...values];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }
  return mixed;
}

function fnv1a(bytes) { // 64 bits in two halves; the prime is 2^40 + 0x1b3
  let high = 0xcbf29ce4, low = 0x84222325;
  for (const byte of bytes) {
    low = (low ^ byte) >>> 0;
    const product = low * 0x1b3;
    high = (high * 0x1b3 + Math.floor(product / 4294967296) + (low << 8)) >>> 0;
    low = product >>> 0;
  }
  return [high, low].map((half) => half.toString(16).padStart(8, "0")).join("");
}

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

const TASKS = {about, examine, time};

globalThis.edgedl = async (job) => {
  try {
    return {seen: await TASKS[job.task](job)};
  } catch (error) {
    if (error?.reason === undefined) throw error;
    return {refused: error};
  }
};
