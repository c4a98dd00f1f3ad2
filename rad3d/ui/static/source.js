// Where a scan comes from: a file of the person, or one of the samples.
// The file is shown by the viewer at once and uploaded beside it, with progress.

const MARKUP = `
<label class="r3-drop">
  <input type="file" accept=".nii,.gz,.zip,.dcm" aria-describedby="r3-drop-hint">
  <span class="r3-drop-icon" aria-hidden="true">↑</span>
  <span class="r3-drop-text"><strong>Upload a chest CT</strong>
    <span id="r3-drop-hint"></span></span>
  <progress max="1" value="0" hidden aria-label="Upload"></progress>
</label>
<details class="r3-metadata"><summary>A scan of CT-RATE? Add its metadata table</summary>
  <p>Scaling, spacing and direction of the scan are then taken from its row in
    <code>train_metadata.csv</code> or <code>validation_metadata.csv</code>, which is found by the
    file’s name. Choose the table first, then the scan. Only the row is read; the table is sent with
    each scan and deleted at once.</p>
  <div class="r3-metadata-file">
    <label class="r3-button">Choose a table<input type="file" accept=".csv"></label>
    <output></output>
    <button type="button" class="r3-button" hidden>Remove</button>
  </div>
</details>
<p class="r3-source-error" role="alert" hidden></p>
<div class="r3-samples" role="list" aria-label="Sample scans"></div>`;

const viewer = () => document.querySelector(".r3-viewer")?.viewer;

class Source {
  #running = null;
  #table = null; // CT-RATE's metadata table: sent with every scan, until it is removed

  constructor(host, { props, trigger, root }) {
    Object.assign(this, { host, props, trigger, root });
    host.innerHTML = MARKUP;
    this.input = host.querySelector("input");
    this.drop = host.querySelector(".r3-drop");
    this.progress = host.querySelector("progress");
    host.querySelector("#r3-drop-hint").textContent =
      `NIfTI (.nii, .nii.gz), or zipped: a DICOM series, an .hdr/.img pair. Up to ${props.max_mb} MB`;
    this.input.addEventListener("change", () => {
      const [file] = this.input.files;
      this.input.value = ""; // so that the same file can be chosen again
      if (file) this.open(file);
    });
    this.#acceptDrops(this.drop);
    this.#addTable(host.querySelector(".r3-metadata"));
    this.#addSamples(props.samples);
  }

  #acceptDrops(target) {
    const hold = (event, over) => {
      event.preventDefault();
      this.drop.classList.toggle("over", over);
    };
    target.addEventListener("dragover", (event) => hold(event, true));
    target.addEventListener("dragleave", (event) => hold(event, false));
    target.addEventListener("drop", (event) => {
      hold(event, false);
      const [file] = event.dataTransfer.files;
      if (file) this.open(file);
    });
  }

  #addTable(fold) {
    const [input, shown, remove] = ["input", "output", "button"].map((tag) => fold.querySelector(tag));
    const choose = (file) => {
      this.#table = file;
      shown.textContent = file ? file.name : "";
      remove.hidden = !file;
    };
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = "";
      if (!file) return;
      const most = this.props.table_mb;
      const large = file.size > most * 2 ** 20;
      this.say(large ? `${file.name} is larger than the ${most} MB that a metadata table may have.` : "");
      if (!large) choose(file);
    });
    remove.addEventListener("click", () => choose(null));
  }

  #addSamples(samples) {
    const list = this.host.querySelector(".r3-samples");
    for (const sample of samples) {
      const card = document.createElement("button");
      card.type = "button";
      card.className = "r3-sample";
      card.dataset.sample = sample.id;
      const picture = document.createElement("img");
      Object.assign(picture, { alt: "", loading: "lazy", width: 72, height: 72 });
      picture.src = new URL(`rad3d/thumbnail/${encodeURIComponent(sample.id)}`, this.root).href;
      picture.addEventListener("error", () => picture.remove());
      const words = document.createElement("span");
      const title = document.createElement("strong");
      const line = document.createElement("span");
      title.textContent = sample.title;
      line.textContent = sample.description;
      words.append(title, line);
      card.append(picture, words);
      card.addEventListener("click", () => this.#choose(sample));
      const item = document.createElement("div");
      item.setAttribute("role", "listitem");
      item.append(card);
      list.append(item);
    }
    list.hidden = samples.length === 0;
  }

  #choose(sample) {
    this.#running?.abort();
    this.say("");
    viewer()?.abandonLocal();
    viewer()?.expect(`Opening ${sample.title}`);
    this.trigger("select", { id: sample.id });
  }

  /** Previews and uploads a file; the page's handler then judges it. */
  open(file) {
    this.#running?.abort();
    this.say("");
    if (file.size > this.props.max_mb * 2 ** 20) {
      const size = Math.ceil(file.size / 2 ** 20);
      this.say(
        `${file.name} has ${size} MB; this app accepts up to ${this.props.max_mb} MB. ` +
          "Crop or resample the scan, or compress it as .nii.gz.",
      );
      return;
    }
    if (this.#table) viewer()?.expect(`Reading ${file.name}`); // its own header may be wrong
    else viewer()?.showLocal(file);
    this.#upload(file, this.#table ? [file, this.#table] : [file]);
  }

  #upload(file, files) {
    const request = new XMLHttpRequest();
    this.#running = request;
    const failed = (text) => {
      this.#uploading(null);
      viewer()?.abandonLocal();
      this.say(text);
    };
    request.open("POST", new URL("gradio_api/upload", this.root));
    request.upload.onprogress = (event) => this.#uploading(event.loaded / event.total);
    request.onload = () => {
      if (request.status === 413) failed(`${file.name} is larger than the ${this.props.max_mb} MB that this app accepts.`);
      else if (request.status === 507) failed(request.responseText); // the disk is full
      else if (request.status !== 200) failed("The upload was refused. Try again.");
      else this.#uploaded(files, JSON.parse(request.responseText));
    };
    request.onerror = () => failed("The upload was interrupted. Check the connection and try again.");
    request.onabort = () => this.#uploading(null);
    const form = new FormData();
    for (const each of files) form.append("files", each, each.name);
    request.send(form);
    this.#uploading(0);
  }

  #uploaded(files, paths) {
    this.#uploading(null);
    this.props.value = files.map((file, i) => ({
      path: paths[i], orig_name: file.name, size: file.size, meta: { _type: "gradio.FileData" },
    }));
    this.trigger("upload");
  }

  #uploading(share) {
    this.progress.hidden = share === null;
    this.progress.value = share ?? 0;
  }

  /** One sentence about the chosen file, "" for none. */
  say(text) {
    const line = this.host.querySelector(".r3-source-error");
    line.hidden = !text;
    line.textContent = text;
  }
}

export function mount(element, props, trigger, root) {
  const host = element.querySelector(".r3-source");
  host.source = new Source(host, { props, trigger, root });
}
