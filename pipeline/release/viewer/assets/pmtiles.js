// A reader of PMTiles, version 3 (github.com/protomaps/PMTiles, spec/v3): header, directories, tiles, by range requests.
// Servers that ignore ranges send the whole file: it is then kept and cut here.
"use strict";

class TileArchive {
  constructor(url) {
    this.url = url;
    this.whole = null; // ArrayBuffer, where the server knows no ranges
    this.directories = new Map(); // "offset:length" to a promise of entries
    this.ready = null;
  }

  header() {
    this.ready ??= this.readHeader();
    return this.ready;
  }

  // The bytes of a tile, unpacked; null where the archive has none.
  async tile(z, x, y) {
    const head = await this.header();
    if (z < head.minZoom || z > head.maxZoom) return null;
    const id = TileArchive.tileId(z, x, y);
    let [offset, length] = [head.rootOffset, head.rootLength];
    for (let depth = 0; depth < 4; depth++) {
      const entry = TileArchive.find(await this.directory(offset, length), id);
      if (entry === null) return null;
      if (entry.run > 0) {
        const packed = await this.range(head.dataOffset + entry.offset, entry.length);
        return TileArchive.unpack(packed, head.tileCompression);
      }
      [offset, length] = [head.leavesOffset + entry.offset, entry.length];
    }
    throw new Error(`${this.url}: directories are nested too deep`);
  }

  async readHeader() {
    const bytes = new DataView(await this.range(0, 127));
    const magic = String.fromCharCode(...new Uint8Array(bytes.buffer, bytes.byteOffset, 7));
    if (magic !== "PMTiles" || bytes.getUint8(7) !== 3) throw new Error(`${this.url}: is no PMTiles of version 3`);
    const long = (at) => Number(bytes.getBigUint64(at, true));
    const degrees = (at) => bytes.getInt32(at, true) / 1e7;
    return {
      rootOffset: long(8), rootLength: long(16), leavesOffset: long(40), dataOffset: long(56),
      directoryCompression: bytes.getUint8(97), tileCompression: bytes.getUint8(98), tileType: bytes.getUint8(99),
      minZoom: bytes.getUint8(100), maxZoom: bytes.getUint8(101),
      bounds: [degrees(102), degrees(106), degrees(110), degrees(114)],
    };
  }

  directory(offset, length) {
    const key = `${offset}:${length}`;
    if (!this.directories.has(key)) {
      if (this.directories.size > 64) this.directories.delete(this.directories.keys().next().value);
      const read = async () => {
        const head = await this.header();
        const packed = await this.range(offset, length);
        return TileArchive.entries(new Uint8Array(await TileArchive.unpack(packed, head.directoryCompression)));
      };
      const promise = read();
      promise.catch(() => this.directories.delete(key));
      this.directories.set(key, promise);
    }
    return this.directories.get(key);
  }

  async range(offset, length) {
    if (this.whole === null) {
      const answer = await fetch(this.url, { headers: { Range: `bytes=${offset}-${offset + length - 1}` } });
      if (answer.status === 206) return answer.arrayBuffer();
      if (!answer.ok) throw new Error(`${this.url}: the server answers ${answer.status}`);
      this.whole = await answer.arrayBuffer();
    }
    return this.whole.slice(offset, offset + length);
  }

  static entries(bytes) {
    let at = 0;
    const next = () => {
      let value = 0, scale = 1, byte;
      do {
        if (at >= bytes.length) throw new Error("a directory of the tiles ends too early");
        byte = bytes[at++];
        value += (byte & 127) * scale; // no shifts: ids have more than 32 bits
        scale *= 128;
      } while (byte > 127);
      return value;
    };
    const entries = Array.from({ length: next() }, () => ({ id: 0, run: 0, length: 0, offset: 0 }));
    let id = 0;
    for (const entry of entries) entry.id = id += next();
    for (const entry of entries) entry.run = next();
    for (const entry of entries) entry.length = next();
    entries.forEach((entry, k) => {
      const value = next();
      entry.offset = value === 0 && k > 0 ? entries[k - 1].offset + entries[k - 1].length : value - 1;
    });
    return entries;
  }

  static find(entries, id) {
    let [low, high] = [0, entries.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (entries[middle].id <= id) low = middle + 1;
      else high = middle - 1;
    }
    if (high < 0) return null;
    const entry = entries[high];
    return entry.run === 0 || id < entry.id + entry.run ? entry : null;
  }

  // Number of a tile on the Hilbert curves of all zooms before its own and of its own.
  static tileId(z, x, y) {
    let id = (4 ** z - 1) / 3;
    for (let side = 2 ** (z - 1); side >= 1; side /= 2) {
      const right = Math.floor(x / side) % 2, low = Math.floor(y / side) % 2;
      id += side * side * ((3 * right) ^ low);
      if (low === 0) {
        if (right === 1) [x, y] = [side - 1 - (x % side), side - 1 - (y % side)];
        [x, y] = [y, x];
      }
    }
    return id;
  }

  static async unpack(buffer, compression) {
    if (compression === 1) return buffer;
    if (compression !== 2) throw new Error(`tiles of compression ${compression} cannot be read; gzip or none can`);
    return new Response(new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }
}
