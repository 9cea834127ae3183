// Keeps the part of a run's page fresh: when an event comes, the server renders that part anew.
const part = document.getElementById("run");
if (part?.dataset.events) {
  const shown = new Set(["message_end", "tool_decision_pending", "tool_decision_resolved", "agent_pause", "agent_end"]);
  const events = new EventSource(part.dataset.events);
  let latest = 0;
  events.onmessage = async (message) => {
    const { type } = JSON.parse(message.data);
    if (type === "agent_end") events.close();
    if (!shown.has(type)) return;
    const number = ++latest;
    const response = await fetch("?part", { headers: { Accept: "text/html" } });
    if (response.ok && number === latest && !part.contains(document.activeElement)) {
      part.innerHTML = await response.text();
    }
  };
}
