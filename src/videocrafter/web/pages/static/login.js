// The page Sign in: why the last attempt failed.
const problem = new URLSearchParams(location.search);
const line = document.getElementById("problem");
if (problem.has("wrong")) line.textContent = "This is not the token. Check the file, and enter its whole first line.";
else if (problem.has("wait")) line.textContent = "Too many attempts. Wait a minute, then try again.";
