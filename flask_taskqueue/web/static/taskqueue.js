// A page in view holds two of six HTTP/1.1 connections to a host; its other jobs, and
// hidden pages, ask every second.
let held = 0;

// Resolves to the job at its end, to false where no events come.
const listen = (url, saw, signal) => new Promise((end) => {
	const source = new EventSource(url + "/events");
	const stop = (come) => {
		source.close();
		clearTimeout(timer);
		document.removeEventListener("visibilitychange", stop);
		end(come);
	};
	// Some proxies let nothing through.
	let timer = setTimeout(stop, 5e3, false);
	for (const name of ["state", "progress", "end"])
		source.addEventListener(name, ({ data }) => {
			clearTimeout(timer);
			// Each stream of 25 s begins with the state.
			timer = setTimeout(stop, 3e4, true);
			const news = JSON.parse(data);
			if (name === "end") stop(news);
			saw(name === "progress" ? { progress: news } : news);
		});
	// Broken streams are opened again, refused ones not.
	source.onerror = () => source.readyState > 1 && stop(false);
	document.addEventListener("visibilitychange", stop);
	signal.onabort = stop;
});

/** Follow a job (id or URL) to its end: resolves to its JSON.
 * Calls onProgress(progress, state) at each change. */
export async function watch(job, { onProgress, signal: given } = {}) {
	// This is <prefix>/static/taskqueue.js.
	const { href } = new URL(job, new URL("..", import.meta.url));
	const signal = AbortSignal.any(given ? [given] : []);
	let seen = {}, told;
	const saw = (news) => {
		const { state, progress = null } = (seen = { ...seen, ...news });
		const now = JSON.stringify([state, progress]);
		if (now !== told && !signal.aborted) onProgress?.(progress, state);
		told = now;
	};
	for (let events = true, failed = 0; ; ) {
		signal.throwIfAborted();
		const began = Date.now();
		const hold = held < 2 && !document.hidden;
		let answer, body;
		held += hold;
		try {
			if (hold && events) events = await listen(href, saw, signal);
			if (events.ready) return events;
			answer = await fetch(hold && !events ? href + "?wait=2" : href, { signal });
			body = answer.ok && (await answer.json());
		} catch (error) {
			// A login page stays; a lost connection comes back.
			if (signal.aborted || error instanceof SyntaxError) throw error;
		} finally {
			held -= hold;
		}
		if (body) saw(body);
		if (body?.ready) return body;
		failed = body ? 0 : failed + 1;
		const code = answer?.status;
		if (/^4(?!29)/.test(code)) throw Error(href + ": " + code);
		const least = answer?.headers.get("Retry-After") | 0;
		const due = began + 1000 * Math.max(least, Math.min(2 ** failed, 30));
		await new Promise((go) => setTimeout((signal.onabort = go), due - Date.now()));
	}
}

// What task_progress() renders.
customElements.define("task-progress", class extends HTMLElement {
	async connectedCallback() {
		const { url, texts, next, reload } = this.dataset;
		if (!url) return;
		const { signal } = (this.leave = new AbortController());
		const bar = this.querySelector("progress");
		const part = (name) => this.querySelector(`[data-part=${name}]`) ?? {};
		const onProgress = (progress, state) => {
			this.dataset.state = state;
			const said = part("text"), text = JSON.parse(texts)[state] ?? state;
			// What is set is read out.
			if (said.textContent !== text) said.textContent = text;
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
});
