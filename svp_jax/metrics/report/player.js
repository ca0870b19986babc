// The player: one film that holds reference, results and differences as tiles, cut out into canvases.

class Film {
  // `shown` is called with the number of the film's frame that has been drawn.
  constructor(video, settings, base64, failed) {
    this.video = video;
    this.settings = settings;
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    this.address = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    // The frame that was sought last, whether no other was played since, and the next one to seek.
    this.target = 0;
    this.sought = true;
    this.wanted = null;
    this.shown = () => {};
    this.stopped = () => {};
    video.addEventListener("error", () => failed());
    video.addEventListener("seeked", () => this.arrived());
    video.addEventListener("loadeddata", () => this.go(this.target));
    video.addEventListener("ended", () => this.shown(settings.numbers.length - 1));
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, () => this.stopped());
    video.src = this.address;
    const frames = "requestVideoFrameCallback" in HTMLVideoElement.prototype;
    // Its time is that of the picture on the screen; currentTime may run ahead of it.
    const next = frames
      ? (call) => video.requestVideoFrameCallback((_, picture) => call(picture.mediaTime))
      : (call) => requestAnimationFrame(() => call(video.currentTime));
    const follow = (time) => {
      const frame = this.frameAt(time);
      // After a seek the picture before it may still be reported; after a pause the last one may yet be.
      const stale = video.seeking || this.wanted !== null || (video.paused && this.sought && frame !== this.target);
      if (!stale) {
        this.sought &&= video.paused;
        this.shown(frame);
      }
      next(follow);
    };
    next(follow);
  }

  get playing() {
    return !this.video.paused && !this.video.ended;
  }

  frameAt(time) {
    // Times of frames' beginnings come rounded to microseconds, some of them down.
    const number = Math.floor(time * this.settings.rate + 0.05);
    return Math.min(Math.max(number, 0), this.settings.numbers.length - 1);
  }

  // Seeks to frame `k`; while a seek is under way only the last wish is kept.
  go(k) {
    this.sought = true;
    if (this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA && !this.video.seeking) {
      this.target = k;
      return;
    }
    if (this.video.seeking) {
      this.wanted = k;
      return;
    }
    this.target = k;
    this.video.currentTime = (k + 0.5) / this.settings.rate;
  }

  arrived() {
    const wanted = this.wanted;
    this.wanted = null;
    if (wanted !== null && wanted !== this.target) this.go(wanted);
    else this.shown(this.target);
  }

  // Draws a row's tile ("picture" or "difference") of the video's frame into a canvas.
  cut(canvas, row, kind, video = this.video) {
    const { width, height, tiles } = this.settings;
    const [x, y] = tiles[row][kind];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.getContext("2d").drawImage(video, x, y, width, height, 0, 0, width, height);
  }
}

// Draws small pictures of single frames with a video of its own, one after the other.
class Thumbnails {
  constructor(film) {
    this.film = film;
    this.video = null;
    this.jobs = [];
    this.busy = false;
  }

  // jobs: [frame of the film, row, canvas]; earlier jobs are given up.
  async draw(jobs) {
    this.jobs = jobs;
    if (this.busy) return;
    this.busy = true;
    if (!this.video) {
      this.video = Object.assign(document.createElement("video"), { muted: true, preload: "auto" });
      const ready = new Promise((done) => this.video.addEventListener("loadeddata", done, { once: true }));
      this.video.src = this.film.address;
      await ready;
    }
    while (this.jobs.length) {
      const [frame, row, canvas] = this.jobs.shift();
      const arrived = new Promise((done) => this.video.addEventListener("seeked", done, { once: true }));
      this.video.currentTime = (frame + 0.5) / this.film.settings.rate;
      await arrived;
      this.film.cut(canvas, row, "picture", this.video);
      canvas.dataset.drawn = frame;
    }
    this.busy = false;
  }
}
