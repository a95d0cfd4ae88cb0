-- What both writers and the reader ask of a table.

local M = {}

local function is_number(text) return text == '' or text:match('^[–—−+-]?%s*[%d.,±–—−()%[%]%s%%×+-]*$') ~= nil end

function M.body_rows(tbl)
  local rows = pandoc.List()
  for _, body in ipairs(tbl.bodies) do
    rows:extend(body.head)
    rows:extend(body.body)
  end
  rows:extend(tbl.foot.rows)
  return rows
end

-- Longest entry and whether all entries are numbers, column by column (cells that span columns do not count).
function M.columns(tbl)
  local columns, rows = {}, M.body_rows(tbl)
  for index = 1, #tbl.colspecs do columns[index] = { length = 0, numeric = true } end
  local held = {}
  for _, row in ipairs(rows) do
    local index = 1
    for _, cell in ipairs(row.cells) do
      while held[index] and held[index] > 0 do
        held[index], index = held[index] - 1, index + 1
      end
      local column, text = columns[index], pandoc.utils.stringify(cell.contents)
      if column and cell.col_span == 1 then
        column.length = math.max(column.length, utf8.len(text) or #text)
        column.numeric = column.numeric and is_number(text)
      end
      for offset = 0, cell.col_span - 1 do held[index + offset] = cell.row_span - 1 end
      index = index + cell.col_span
    end
  end
  return columns
end

return M
