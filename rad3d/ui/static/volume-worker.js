// Decompresses and parses a volume off the main thread.
// In: {id, blob | {url, headers}, maxBytes}. Out: {id, header, voxels} or {id, error, unsupported}.

import { UnsupportedVolume, isGzip, readNifti } from "./nifti.js";

async function open({ blob, url, headers }) {
  if (blob) {
    const first = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
    return isGzip(first) ? blob.stream().pipeThrough(new DecompressionStream("gzip")) : blob.stream();
  }
  const response = await fetch(url, { headers, cache: "no-store" });
  if (!response.ok) throw new Error(await response.text());
  return response.body;
}

self.onmessage = async ({ data }) => {
  try {
    const { header, voxels } = await readNifti(await open(data), data.maxBytes);
    self.postMessage({ id: data.id, header, voxels }, [voxels.buffer]);
  } catch (error) {
    const unsupported = error instanceof UnsupportedVolume;
    self.postMessage({ id: data.id, error: String(error.message || error), unsupported });
  }
};
