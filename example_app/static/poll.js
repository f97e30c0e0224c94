// Shows the job's progress; loads the page again when the job has ended.
const task = document.currentScript.dataset.task;
const state = document.getElementById("state");
const bar = document.getElementById("progress");

async function poll() {
  const response = await fetch(task);
  const job = await response.json();
  if (job.ready) return location.reload();
  state.textContent = job.state;
  if (job.progress) {
    bar.hidden = false;
    bar.max = job.progress.total;
    bar.value = job.progress.current;
  }
  setTimeout(poll, 1000);
}

poll();
