// Follows jobs of Flask-TaskQueue.

// A browser opens six HTTP/1.1 connections to a host. A page in view holds two;
// its other jobs, and hidden pages, ask every second, which holds none.
let held = 0;

// Resolves when it is time to ask, to false where no events come.
const listen = (url, saw, signal) =>
	new Promise((resolve) => {
		const source = new EventSource(url + "/events");
		const on = (name, hear) => source.addEventListener(name, hear);
		const stop = (come) => {
			source.close();
			clearTimeout(timer);
			resolve(come);
		};
		// Some proxies let nothing through.
		const timer = setTimeout(stop, 5000, false);
		on("state", ({ data }) => {
			clearTimeout(timer);
			saw(JSON.parse(data));
		});
		on("progress", ({ data }) => saw({ progress: JSON.parse(data) }));
		on("end", stop);
		// The browser opens a broken stream again, but not a refused one.
		on("error", () => source.readyState > 1 && stop(false));
		document.addEventListener("visibilitychange", stop, { once: true });
		signal.onabort = stop;
	});

/** Follow a job, by id or URL, to its end: resolves to its JSON, also if it failed.
 * Calls onProgress(progress, state) at each change; progress may be null. */
export async function watch(job, { onProgress, signal: given } = {}) {
	// This is <prefix>/static/taskqueue.js, a job is <prefix>/<id>.
	const { href } = new URL(job, new URL("..", import.meta.url));
	const signal = AbortSignal.any(given ? [given] : []);
	let seen = {}, told;
	const saw = (news) => {
		const { state, progress = null } = (seen = { ...seen, ...news });
		const now = JSON.stringify([state, progress]);
		if (now !== told && !signal.aborted) onProgress?.(progress, state);
		told = now;
	};
	for (let events = self.EventSource, failed = 0; ; ) {
		signal.throwIfAborted();
		const began = Date.now();
		const hold = held < 2 && !document.hidden;
		let answer, body;
		held += hold;
		try {
			if (hold && events) events = await listen(href, saw, signal);
			answer = await fetch(hold && !events ? href + "?wait=2" : href, { signal });
			body = answer.ok && (await answer.json());
		} catch (error) {
			// A login page stays one; a lost connection comes back.
			if (signal.aborted || error instanceof SyntaxError) throw error;
		} finally {
			held -= hold;
		}
		if (body) saw(body);
		if (body?.ready) return body;
		failed = body ? 0 : failed + 1;
		const code = answer?.status ?? 503;
		if (code > 399 && code < 500 && code !== 429) throw Error(href + ": " + code);
		const least = Number(answer?.headers.get("Retry-After")) || 1;
		const due = began + 1000 * Math.max(least, Math.min(2 ** failed, 30));
		await new Promise((go) => setTimeout((signal.onabort = go), due - Date.now()));
	}
}

// What task_progress() renders, words included.
class TaskProgress extends HTMLElement {
	async connectedCallback() {
		const { url, texts, next, reload } = this.dataset;
		if (!url) return;
		const { signal } = (this.leave = new AbortController());
		const bar = this.querySelector("progress");
		const part = (name) => this.querySelector(`[data-part=${name}]`) ?? {};
		const onProgress = (progress, state) => {
			this.dataset.state = state;
			part("text").textContent = JSON.parse(texts)[state] ?? state;
			if (!progress) return;
			const { current, total, message } = progress;
			part("message").textContent = message ?? "";
			if (total > 0 && current >= 0) [bar.max, bar.value] = [total, current];
			else bar.removeAttribute("value");
		};
		part("refresh").hidden = true;
		try {
			const detail = await watch(url, { onProgress, signal });
			bar.value = detail.successful ? bar.max : bar.value;
			const end = { detail, bubbles: true, cancelable: true };
			if (!this.dispatchEvent(new CustomEvent("taskqueue:end", end))) return;
			if (next && detail.successful) location.assign(next);
			else if (reload) location.reload();
		} catch {
			if (!signal.aborted) onProgress(null, "UNAVAILABLE");
		}
		part("refresh").hidden = false;
	}

	disconnectedCallback() {
		this.leave?.abort();
	}
}
customElements.define("task-progress", TaskProgress);
