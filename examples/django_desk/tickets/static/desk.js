// Has a ticket answered, and shows how that goes: the answer to the form is an event stream.
for (const form of document.querySelectorAll("form.draft")) {
  const progress = form.parentElement.querySelector(".progress");
  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    form.querySelector("button").disabled = true;
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    if (!response.ok) {
      progress.textContent = `This did not work (${response.status}).`;
      return;
    }
    let rest = "";
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const frames = (rest + part.value).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        const data = frame.split("\n").find((line) => line.startsWith("data: "));
        if (data) show(JSON.parse(data.slice(6)), progress);
      }
    }
  });
}

function show(event, progress) {
  if (event.type === "tool_execution_start") progress.textContent = `${event.toolName} …`;
  if (event.type === "tool_decision_pending") progress.textContent = `Waits for the staff: ${event.input?.text ?? ""}`;
  if (event.type === "agent_end") progress.textContent = `The run is ${event.status}.`;
}
