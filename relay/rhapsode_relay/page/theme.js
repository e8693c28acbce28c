// The colours that this person chose, before anything is painted. No module: those run too late for that.
try {
  const chosen = JSON.parse(localStorage.getItem("rhapsode.theme"));
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing shows what its system says.
}
