"""One router per resource; each route asks one method of `Aero`."""
